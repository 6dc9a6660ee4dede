"""Rows become what the kernel must hold; what can't be read drops instead of leaking."""

import msgspec
import pytest

from ebbgate_bus.contracts import codec, rows, subjects
from ebbgate_bus.contracts.message import Message
from ebbgate_programmer.core import (
    addresses,
    applied,
    cidrs,
    decisions,
    desired,
    lowering,
    marks,
    places,
    scopes,
    uplinks,
)
from ebbgate_programmer.core.kernelstate import Action, KernelState, PathKey, RouteKey

HERE = lowering.Environment(node="node1", object_hash="ab", interfaces={"eth0": "eth0", "uplink": "eth0"})
COMMIT = rows.Commit(epoch=1, revision=7, count=0, digest="00")
POD = "10.244.1.10"


def _agreed(held: dict[str, Message | bytes]) -> scopes.Agreed:
    payloads = {key: row if isinstance(row, bytes) else codec.encode(row) for key, row in held.items()}
    return scopes.Agreed(payloads, COMMIT)


def _shared(**changed: bytes) -> dict[str, Message | bytes]:
    steer = rows.Route("0.0.0.0/0", rows.Action.STEER, "uid-1", "p")
    keep = rows.Route("10.0.0.0/8", rows.Action.EXCLUDE, "uid-1", "p")
    paths = rows.Paths(
        paths=(rows.Path("node2", "10.168.60.12", 16), rows.Path("node1", "10.168.60.11", 17)),
        buckets=(*[0] * 32, *[1] * 31, rows.NO_PATH),
    )
    held: dict[str, Message | bytes] = {
        subjects.routes("s1", 0): rows.Routes(policies=("p",), routes=(steer,)),
        subjects.routes("s1", 1): rows.Routes(policies=("p",), routes=(keep,)),
        subjects.group("uid-1"): rows.Group(policy="p", ipv4=paths),
        subjects.peer("node2"): rows.Peer(addresses=("10.168.60.12", "fd00::2")),
        subjects.cluster("10.244.0.0/16"): rows.Cluster(cidr="10.244.0.0/16"),
        subjects.cluster("fd00::/48"): rows.Cluster(cidr="fd00::/48"),
    }
    names = {"group": subjects.group("uid-1"), "chunk": subjects.routes("s1", 1)}
    return held | {names[name]: payload for name, payload in changed.items()}


def _endpoint(*, bucket: int = 0, ip: str = POD, set_id: str = "s1") -> dict[str, Message | bytes]:
    row = rows.Endpoint(ip=ip, set=set_id, bucket=bucket, pod="default/a")
    return {subjects.endpoint("node1", ip): row}


def _row_of(ip: str, *, bucket: int = 0) -> rows.Endpoint:
    return rows.Endpoint(ip=ip, set="s1", bucket=bucket, pod="default/b")


def _lower(shared: dict[str, Message | bytes], own: dict[str, Message | bytes]) -> lowering.Lowered:
    return lowering.lower(desired.read("node1", _agreed(shared), _agreed(own)), HERE)


def _fate(state: KernelState, target: str) -> decisions.Decision:
    return decisions.decide(decisions.Tables(state), POD, target)


def test_a_pod_is_covered_and_finds_gateway_and_slot() -> None:
    state = _lower(_shared(), _endpoint()).state
    assert _fate(state, "8.8.8.8") == decisions.Decision(decisions.Kind.TUNNEL, "10.168.60.12", 16)
    assert _fate(state, "10.1.1.1") == decisions.UNTOUCHED
    assert _fate(state, "10.244.9.9") == decisions.UNTOUCHED
    assert _fate(state, "169.254.169.254") == decisions.UNTOUCHED
    assert state.peers == {"10.168.60.12", "fd00::2"}


def test_a_pod_on_its_own_gateway_needs_no_tunnel() -> None:
    own = _endpoint(bucket=40) | {subjects.egress("node1", 17): rows.Egress(egress_ip="10.168.60.11")}
    assert _fate(_lower(_shared(), own).state, "8.8.8.8") == decisions.Decision(decisions.Kind.LOCAL, "", 17)


def test_a_slot_of_our_own_without_an_egress_row_drops() -> None:
    assert _fate(_lower(_shared(), _endpoint(bucket=40)).state, "8.8.8.8") == decisions.DROPPED


def test_a_bucket_without_path_drops() -> None:
    state = _lower(_shared(), _endpoint(bucket=63)).state
    assert _fate(state, "8.8.8.8") == decisions.DROPPED
    assert state.paths == {}


def test_only_paths_that_a_local_pod_can_ask_for_are_held() -> None:
    state = _lower(_shared(), _endpoint()).state
    assert set(state.paths) == {PathKey(lowering.group_id("uid-1", "ipv4"), 0)}


def test_the_same_content_of_a_set_has_the_same_id_and_other_content_another() -> None:
    one, same = _lower(_shared(), _endpoint()).state, _lower(_shared(), _endpoint(bucket=3)).state
    assert one.endpoints[POD].set == same.endpoints[POD].set
    smaller = {key: row for key, row in _shared().items() if key != subjects.routes("s1", 1)}
    assert _lower(smaller, _endpoint()).state.endpoints[POD].set != one.endpoints[POD].set


def test_a_missing_set_drops_and_is_a_problem() -> None:
    lowered = _lower(_shared(), _endpoint(set_id="lost"))
    assert _fate(lowered.state, "8.8.8.8") == decisions.DROPPED
    assert any("lost" in problem.reason for problem in lowered.problems)


def test_a_chunk_that_does_not_decode_drops_its_pods_and_names_its_row() -> None:
    lowered = _lower(_shared(chunk=b"{"), _endpoint())
    assert _fate(lowered.state, "8.8.8.8") == decisions.DROPPED
    assert subjects.routes("s1", 1) in {problem.row for problem in lowered.problems}


def test_a_group_that_does_not_decode_drops_only_what_it_serves() -> None:
    lowered = _lower(_shared(group=b'{"v":9}'), _endpoint())
    assert _fate(lowered.state, "8.8.8.8") == decisions.DROPPED
    assert _fate(lowered.state, "10.1.1.1") == decisions.UNTOUCHED


def test_an_endpoint_that_does_not_decode_drops_its_pod_and_no_other() -> None:
    other = subjects.endpoint("node1", "10.244.1.11")
    lowered = _lower(_shared(), _endpoint() | {other: b"?"})
    answer = decisions.decide(decisions.Tables(lowered.state), "10.244.1.11", "8.8.8.8")
    assert answer == decisions.DROPPED
    assert _fate(lowered.state, "8.8.8.8").kind is decisions.Kind.TUNNEL


@pytest.mark.parametrize(
    ("subject", "row", "said"),
    [
        (subjects.endpoint("node1", "10.244.1.11"), _row_of("10.244.1.12"), "is about 10.244.1.12"),
        (subjects.endpoint("node1", "10.244.1.11"), _row_of("10.244.1.11", bucket=64), "bucket 64"),
        (subjects.endpoint("node1", "fd00::0:1"), _row_of("fd00::0:1"), "is not written as fd00::1"),
        (subjects.endpoint("node1", "pod"), _row_of("pod"), "is not an IP address"),
        (subjects.egress("node1", 7), rows.Egress(egress_ip="10.0.0.1"), "'7' is not a slot"),
        (subjects.egress("node1", 16), rows.Egress(egress_ip="10.0.0"), "is not an IP address"),
        (subjects.peer("node9"), rows.Peer(addresses=("10.0.0.1", "?")), "'?' is not an IP address"),
        (subjects.cluster("10.0.0.1/8"), rows.Cluster(cidr="10.0.0.1/8"), "has host bits set"),
    ],
)
def test_a_row_that_cannot_be_is_refused_by_name_and_costs_no_other(
    subject: str, row: Message, said: str
) -> None:
    held = {subject: codec.encode(row)}
    in_all = subject.startswith(subjects.ALL_SCOPE)
    lowered = _lower(_shared() | (held if in_all else {}), _endpoint() | ({} if in_all else held))
    (problem,) = lowered.problems
    assert (problem.row, said in problem.reason) == (subject, True)
    assert _fate(lowered.state, "8.8.8.8").kind is decisions.Kind.TUNNEL


def test_a_set_with_a_route_that_cannot_be_drops_its_pods() -> None:
    broken = rows.Routes(
        policies=("p",), routes=(rows.Route("10.0.0.0/33", rows.Action.EXCLUDE, "uid-1", "p"),)
    )
    lowered = _lower(_shared(chunk=codec.encode(broken)), _endpoint())
    assert _fate(lowered.state, "8.8.8.8") == decisions.DROPPED
    assert any("10.0.0.0/33" in problem.reason for problem in lowered.problems)


def test_an_ipv6_address_of_a_pod_is_covered_only_if_its_set_wants_ipv6() -> None:
    lowered = _lower(_shared(), _endpoint(ip="fd00::10"))
    assert lowered.state.covered == frozenset()
    steer6 = rows.Route("::/0", rows.Action.STEER, "uid-1", "p")
    shared = _shared() | {subjects.routes("s1", 2): rows.Routes(policies=("p",), routes=(steer6,))}
    lowered = _lower(shared, _endpoint(ip="fd00::10"))
    assert lowered.state.covered == {"fd00::10"}
    answer = decisions.decide(decisions.Tables(lowered.state), "fd00::10", "2600::1")
    assert answer == decisions.DROPPED, "the group has no IPv6 paths"


def test_each_family_has_paths_of_its_own() -> None:
    steer6 = rows.Route("::/0", rows.Action.STEER, "uid-1", "p")
    six = rows.Paths(paths=(rows.Path("node2", "10.168.60.12", 18),), buckets=(0,) * 64)
    group = _shared()[subjects.group("uid-1")]
    assert isinstance(group, rows.Group)
    shared = _shared() | {
        subjects.routes("s1", 2): rows.Routes(policies=("p",), routes=(steer6,)),
        subjects.group("uid-1"): msgspec.structs.replace(group, ipv6=six),
    }
    state = _lower(shared, _endpoint() | _endpoint(ip="fd00::10")).state
    tables = decisions.Tables(state)
    tunnel = decisions.Kind.TUNNEL
    assert decisions.decide(tables, POD, "8.8.8.8") == decisions.Decision(tunnel, "10.168.60.12", 16)
    assert decisions.decide(tables, "fd00::10", "2600::1") == decisions.Decision(tunnel, "10.168.60.12", 18)
    assert decisions.decide(tables, "fd00::10", "fd00::1:1") == decisions.UNTOUCHED


def test_an_uplink_of_its_own_gets_a_class_rules_and_a_table() -> None:
    apart = uplinks.Uplink(
        is_default=True,
        hops=(uplinks.Hop("ipv4", "", "192.0.2.254"), uplinks.Hop("ipv4", "192.0.2.0/24", "")),
    )
    there = msgspec.structs.replace(
        HERE,
        interfaces={"eth0": "eth0", "eth1": "eth1"},
        ethernet={"eth0": uplinks.Uplink(is_default=True), "eth1": apart},
    )
    own = {
        subjects.egress("node1", 16): rows.Egress(egress_ip="10.168.60.100", interface="eth0"),
        subjects.egress("node1", 17): rows.Egress(egress_ip="192.0.2.1", interface="eth1"),
        **_endpoint(bucket=40),
    }
    state = lowering.lower(desired.read("node1", _agreed(_shared()), _agreed(own)), there).state
    ((slot, number),) = state.uplinks.items()
    table = places.TABLE_UPLINK + number
    assert slot == 17
    assert {rule.mark for rule in state.rules if rule.table == table} == {
        marks.mark_of(number),
        marks.mark_of(17),
    }
    assert {(way.destination, way.gateway) for way in state.ways if way.table == table} == {
        ("", ""),
        ("", "192.0.2.254"),
        ("192.0.2.0/24", ""),
    }
    assert state.guarded == {"eth0", "eth1"}


def test_an_egress_row_loosens_rp_filter_of_its_interface_also_by_an_alternative_name() -> None:
    row = rows.Egress(egress_ip="10.168.60.100", interface="uplink", policies=("p",))
    lowered = _lower(_shared(), {subjects.egress("node1", 16): row})
    assert lowered.state.egress == {16: "10.168.60.100"}
    assert lowered.state.sysctls["net/ipv4/conf/eth0/rp_filter"] == "2"
    assert lowered.problems == ()


def test_an_interface_that_does_not_exist_is_a_problem() -> None:
    row = rows.Egress(egress_ip="10.168.60.100", interface="eth9", policies=("p",))
    (problem,) = _lower(_shared(), {subjects.egress("node1", 16): row}).problems
    assert ("eth9" in problem.reason, problem.policy) == (True, "p")


def test_the_device_differs_from_node_to_node_and_not_from_start_to_start() -> None:
    here, again = lowering.device(HERE), lowering.device(HERE)
    there = lowering.device(lowering.Environment(node="node2"))
    assert here == again
    assert here.mac != there.mac
    assert int(here.mac.split(":")[0], 16) & 3 == 2


def test_ids_of_sets_are_64_bits_whatever_the_routes() -> None:
    state = _lower(_shared(), _endpoint()).state
    assert all(0 < key.set < 1 << 64 for key in state.routes)
    assert {value.action for value in state.routes.values()} == {Action.STEER, Action.EXCLUDE}


def test_cidrs_are_collapsed_and_ranges_taken_apart() -> None:
    assert cidrs.collapse(["10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16", "fd00::/65", "fd00::1/128"]) == {
        "10.0.0.0/8",
        "fd00::/65",
    }
    assert not any("ffff" in cidr for cidr in cidrs.collapse(["::/0"]))
    assert len(cidrs.collapse(["::/0"])) == 96
    assert cidrs.between("10.0.0.1", "10.0.0.2") == ["10.0.0.1/32", "10.0.0.2/32"]
    assert cidrs.between("fd00::", "fd00::1") == ["fd00::/127"]


def test_a_route_names_its_cidr() -> None:
    assert RouteKey(1, *addresses.prefix("10.0.0.0/8")).cidr == "10.0.0.0/8"
    assert RouteKey(1, *addresses.prefix("2001:db8::/32")).cidr == "2001:db8::/32"


def test_applied_counts_what_is_held_and_says_more_only_when_it_does() -> None:
    state = _lower(_shared(), _endpoint()).state
    said = applied.report("node1", (_agreed({}), _agreed({})), state, ())
    assert said.counts == {"endpoints": 1, "routes": 2, "paths": 1, "peers": 2, "slots": 0}
    assert (said.all_revision, said.node_revision, said.epoch) == (7, 7, 1)
    assert applied.says_more(said, None)
    assert not applied.says_more(said, applied.report("node1", (_agreed({}), _agreed({})), state, ()))


def test_refused_entries_name_row_policy_or_cidr() -> None:
    route = applied.refusal("node1", {}, RouteKey(1, *addresses.prefix("10.0.0.0/8")), "full")
    path = applied.refusal("node1", {5: "p"}, PathKey(5, 3), "full")
    endpoint = applied.refusal("node1", {}, POD, "full")
    assert route.reason == "route 10.0.0.0/8: full"
    assert (path.policy, path.reason) == ("p", "path of bucket 3: full")
    assert endpoint.row == subjects.endpoint("node1", POD)
