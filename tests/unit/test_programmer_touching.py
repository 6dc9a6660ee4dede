"""Which parts of the kernel are read back after which changes."""

import pytest

from ebbgate_programmer.core import changes, firewall, kernelstate, touching
from ebbgate_programmer.core.touching import Part

EMPTY = kernelstate.KernelState()


def sets(*names: tuple[str, str]) -> changes.UpdateSets:
    """(family, set): of the main table."""
    held = tuple(firewall.Elements(family, "ebbgate", name, ("x",)) for family, name in names)
    return changes.UpdateSets(held[:1], held[1:])


PUT = changes.Put(changes.Map.ENDPOINT, (("10.0.0.1", kernelstate.EndpointValue(1, 2)), ("fd00::1", None)))


@pytest.mark.parametrize(
    ("done", "parts", "pods"),
    [
        ((), set(), set()),
        ((PUT, sets(("ip", "covered"))), set(), {"10.0.0.1", "fd00::1", "x"}),
        (
            (changes.Drop(changes.Map.ENDPOINT, ("10.0.0.2",)), PUT),
            set(),
            {"10.0.0.1", "10.0.0.2", "fd00::1"},
        ),
        (
            (changes.Drop(changes.Map.ROUTE, ()), changes.Put(changes.Map.PATH, ())),
            {Part.ROUTES, Part.PATHS},
            set(),
        ),
        ((sets(("ip", "egress"), ("ip", "leaving"), ("ip", "zones")),), {Part.EGRESS}, set()),
        ((sets(("ip6", "covered")), changes.Put(changes.Map.PEER, ())), {Part.PEERS}, {"x"}),
        (
            (sets(("ip6", "uplinks")), changes.Drop(changes.Map.EGRESS, ())),
            {Part.UPLINKS, Part.SOURCES},
            set(),
        ),
        ((changes.ForgetPods(("10.0.0.9",), EMPTY, EMPTY),), set(), set()),
    ],
)
def test_small_changes_touch_their_own_parts(
    done: tuple[changes.Change, ...], parts: set[Part], pods: set[str]
) -> None:
    assert touching.touched(done) == touching.Touched(frozenset(parts), frozenset(pods))


def test_many_pods_have_their_parts_read_whole() -> None:
    many = tuple(f"10.0.{number >> 8}.{number & 255}" for number in range(touching.MANY + 1))
    held = firewall.Elements("ip", "ebbgate", "covered", many)
    done = (changes.Drop(changes.Map.ENDPOINT, many[:1]), changes.UpdateSets((), (held,)))
    assert touching.touched(done) == touching.Touched(frozenset({Part.ENDPOINTS, Part.COVERED}))


@pytest.mark.parametrize(
    "far",
    [changes.SetFirewall((), EMPTY), sets(("ip", "covered"), ("ip", "cluster"))],
    ids=["firewall", "cluster"],
)
def test_what_reaches_further_has_everything_read(far: changes.Change) -> None:
    assert touching.touched((changes.Put(changes.Map.PATH, ()), far)) is None
