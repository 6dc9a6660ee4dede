"""What may go on after the kernel refused something, and which connections a start finds stale."""

import msgspec
import pytest

from ebbgate_programmer.core import (
    addresses,
    changes,
    connections,
    decisions,
    firewall,
    lowering,
    marks,
    ordering,
)
from ebbgate_programmer.core.kernelstate import (
    Action,
    EndpointValue,
    KernelState,
    PathKey,
    PathValue,
    RouteKey,
    RouteValue,
)

POD, WHOLE, LAME = "10.244.1.10", 1, 2
ROUTE = changes.Put(changes.Map.ROUTE, ((RouteKey(LAME, 0, 0), RouteValue(Action.STEER, 7)),))
ENDPOINTS = changes.Put(
    changes.Map.ENDPOINT, ((POD, EndpointValue(LAME, 0)), ("10.244.1.11", EndpointValue(WHOLE, 0)))
)


def test_pods_are_not_moved_to_a_set_that_lacks_a_route() -> None:
    (safe,) = changes.hold_back([ENDPOINTS], ROUTE, ((RouteKey(LAME, 0, 0), "full"),))
    assert safe == changes.Put(changes.Map.ENDPOINT, ENDPOINTS.entries[1:])


def test_nothing_that_a_pod_held_back_needs_is_taken_away() -> None:
    rest = [
        changes.Drop(changes.Map.ROUTE, (RouteKey(WHOLE, 0, 0),)),
        changes.Drop(changes.Map.PATH, (PathKey(7, 0),)),
        changes.Drop(changes.Map.ENDPOINT, (POD,)),
    ]
    assert changes.hold_back(rest, ROUTE, ((RouteKey(LAME, 0, 0), "full"),)) == rest[2:]


def test_a_path_that_waits_for_pods_to_leave_does_not_come_while_some_are_held_back() -> None:
    path = changes.Put(changes.Map.PATH, ((PathKey(7, 0), PathValue("10.168.60.12", 16)),))
    assert changes.hold_back([path], ROUTE, ((RouteKey(LAME, 0, 0), "full"),)) == []


def test_a_refused_path_holds_no_pod_back() -> None:
    path = changes.Put(changes.Map.PATH, ((PathKey(7, 0), PathValue("10.168.60.12", 16)),))
    assert changes.hold_back([ENDPOINTS], path, ((PathKey(7, 0), "full"),)) == [ENDPOINTS]


@pytest.mark.parametrize(
    ("change", "goes_on"),
    [
        (changes.SetSysctl("x", "2"), True),
        (changes.UpdateSets((), ()), False),
        (ROUTE, False),
        (changes.Drop(changes.Map.PEER, ()), True),
        (changes.Drop(changes.Map.PATH, ()), False),
        (changes.ForgetSlots((16,)), True),
    ],
)
def test_only_what_nothing_builds_on_may_be_skipped(change: changes.Change, goes_on: bool) -> None:
    assert changes.may_go_on(change) is goes_on


def test_pods_that_are_to_be_covered_are_whatever_was_refused() -> None:
    after = KernelState(covered=frozenset({POD}), egress={77: "10.168.60.100"})
    update = changes.UpdateSets(*firewall.elements_between(KernelState(), after))
    (left,) = changes.covering([ENDPOINTS, update, changes.Drop(changes.Map.ENDPOINT, (POD,))])
    assert isinstance(left, changes.UpdateSets)
    assert left.removed == ()
    assert {each.name for each in left.added} == {"covered"}
    assert {each.table for each in left.added} == {"ebbgate", "ebbgate_guard"}
    assert {element for each in left.added for element in each.elements} == {POD}


_HELD = KernelState(
    covered=frozenset({POD}),
    endpoints={POD: EndpointValue(WHOLE, 0)},
    routes={
        RouteKey(WHOLE, *addresses.prefix("0.0.0.0/0")): RouteValue(Action.STEER, 7),
        RouteKey(WHOLE, *addresses.prefix("192.0.2.0/24")): RouteValue(Action.STEER, 8),
        RouteKey(WHOLE, *addresses.prefix("198.51.100.0/24")): RouteValue(Action.EXCLUDE, 7),
        RouteKey(WHOLE, *addresses.prefix("203.0.113.0/24")): RouteValue(Action.DROP, 0),
    },
    paths={PathKey(7, 0): PathValue("10.168.60.12", 16), PathKey(8, 0): PathValue("", 17, local=True)},
)


@pytest.mark.parametrize(
    ("target", "field", "stale"),
    [
        ("8.8.8.8", marks.STEERED, False),
        ("8.8.8.8", 0, True),
        ("8.8.8.8", marks.LOCAL, True),
        ("192.0.2.1", marks.LOCAL, False),
        ("192.0.2.1", marks.STEERED, True),
        ("198.51.100.1", 0, False),
        ("198.51.100.1", marks.STEERED, True),
        ("203.0.113.1", marks.STEERED, True),
    ],
)
def test_a_connection_is_stale_if_its_mark_is_not_its_fates(target: str, field: int, stale: bool) -> None:
    assert connections.is_stale(decisions.Tables(_HELD), (POD, target), field) is stale


def _of_paths(todo: list[changes.Change]) -> list[str]:
    """Of a list the writes to paths and endpoints, in order."""
    found = [change for change in todo if isinstance(change, changes.Put | changes.Drop)]
    wanted = (changes.Map.PATH, changes.Map.ENDPOINT)
    return [f"{type(change).__name__} {change.map.value}" for change in found if change.map in wanted]


def _diff(**changed: object) -> list[str]:
    environment = lowering.static(lowering.Environment(node="node1", object_hash="ab"), ["eth0"])
    held = msgspec.structs.replace(
        environment, covered=_HELD.covered, endpoints=_HELD.endpoints, routes=_HELD.routes, paths=_HELD.paths
    )
    wanted = msgspec.structs.replace(held, **changed)
    return _of_paths(ordering.diff(wanted, held, firewall.chains(19021)))


_ELSEWHERE = {**_HELD.paths, PathKey(7, 0): PathValue("10.168.60.14", 17)}


def test_a_path_moves_in_one_write() -> None:
    assert _diff(paths=_ELSEWHERE) == ["Put path"]


@pytest.mark.parametrize(
    "left",
    [
        {"endpoints": {POD: EndpointValue(LAME, 0)}},
        {"endpoints": {}, "covered": frozenset()},
        {"endpoints": {POD: EndpointValue(WHOLE, 1)}},
        {"cluster": frozenset({"198.18.0.0/15"})},
    ],
    ids=["other routes", "uncovered", "other bucket", "cluster"],
)
def test_a_path_that_something_leaves_at_once_drops_meanwhile(left: dict[str, object]) -> None:
    """Else what leaves it would take the new path by its old routes: 7 packets of 3,401,505 in a hunt did."""
    order = _diff(paths=_ELSEWHERE, **left)
    assert (order[0], order[-1]) == ("Drop path", "Put path")
    assert order.count("Put path") == 1


def test_a_path_that_others_leave_moves_in_one_write() -> None:
    bystander = {**_HELD.endpoints, "10.244.1.11": EndpointValue(WHOLE, 0)}
    assert _diff(paths=_ELSEWHERE, endpoints=bystander) == ["Put path", "Put endpoint"]


def test_bootstrap_sets_guards_first_and_covers_pods_last() -> None:
    wanted = lowering.static(lowering.Environment(node="node1", object_hash="ab"), ["eth0"])
    todo = changes.names(ordering.diff(wanted, KernelState(), firewall.chains(19021)))
    assert todo[0] == "SetFirewall"
    assert todo.index("AddRule") > max(number for number, name in enumerate(todo) if name == "AddWay")
