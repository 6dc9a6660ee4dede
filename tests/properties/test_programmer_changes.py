"""No prefix of a node's Changes sends a packet to a wrong egress IP or out unchanged."""

import ipaddress

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbgate_bus.contracts import rows
from ebbgate_programmer.core import changes, decisions, desired, firewall, lowering
from ebbgate_programmer.core.kernelstate import KernelState
from tests.properties import examples, fake_kernel

CHAINS = firewall.chains(19021)
PODS = ("10.244.1.10", "10.244.1.11", "10.244.1.12")
UIDS = ("uid-1", "uid-2")
CIDRS = ("0.0.0.0/0", "10.168.0.0/16", "10.168.60.0/24", "192.0.2.0/24", "192.0.2.7/32", "10.244.0.0/16")
DESTINATIONS = (
    "10.168.60.13",
    "10.168.1.1",
    "192.0.2.7",
    "192.0.2.8",
    "8.8.8.8",
    "10.244.2.10",
    "169.254.1.1",
)
GATEWAYS = {"node1": "10.168.60.11", "node2": "10.168.60.12", "node3": "10.168.60.14"}

routes = st.builds(
    rows.Route,
    st.sampled_from(CIDRS),
    st.sampled_from(list(rows.Action)),
    st.sampled_from(UIDS),
    st.just("p"),
)
route_sets = st.lists(routes, max_size=5, unique_by=lambda route: route.cidr).map(
    lambda found: tuple(sorted(found, key=lambda route: route.cidr))
)
paths = st.sampled_from(sorted(GATEWAYS)).flatmap(
    lambda node: st.builds(
        rows.Path, st.just(node), st.just(GATEWAYS[node]), st.sampled_from([0, 16, 17, 4095])
    )
)
groups = st.builds(
    lambda chosen, buckets: rows.Group(
        policy="p", ipv4=rows.Paths(paths=tuple(chosen), buckets=tuple(buckets))
    ),
    st.lists(paths, min_size=2, max_size=2),
    st.lists(st.sampled_from([rows.NO_PATH, 0, 1]), min_size=2, max_size=2),
)
endpoints = st.lists(
    st.builds(
        rows.Endpoint,
        ip=st.sampled_from(PODS),
        set=st.sampled_from(["s1", "s2", "lost"]),
        bucket=st.sampled_from([0, 1]),
        pod=st.just("default/pod"),
    ),
    max_size=3,
    unique_by=lambda row: row.ip,
)
egress_ips = {16: "10.168.60.100", 17: "10.168.60.101", 4095: "10.168.60.102"}
plans = st.builds(
    desired.Desired,
    node=st.just("node1"),
    endpoints=endpoints.map(tuple),
    blind=st.sets(st.just("10.244.1.99")).map(tuple),
    egress=st.sets(st.sampled_from(sorted(egress_ips))).map(
        lambda slots: {
            slot: rows.Egress(egress_ip=egress_ips[slot], interface="eth0") for slot in sorted(slots)
        }
    ),
    sets=st.fixed_dictionaries({"s1": route_sets, "s2": route_sets}),
    groups=st.dictionaries(st.sampled_from(UIDS), groups),
    peers=st.sets(st.sampled_from(sorted(GATEWAYS.values()))).map(lambda found: tuple(sorted(found))),
    cluster=st.sets(st.sampled_from(["10.244.0.0/16", "10.168.60.0/25", "fd00::/48"])).map(
        lambda found: tuple(sorted(found))
    ),
)
environments = st.builds(
    lowering.Environment,
    node=st.just("node1"),
    underlay_mtu=st.sampled_from([1500, 9000]),
    port=st.just(19021),
    object_hash=st.sampled_from(["aa", "bb"]),
    interfaces=st.just({"eth0": "eth0"}),
)
states = st.builds(lambda plan, place: lowering.lower(plan, place).state, plans, environments)
# What a kernel may hold before: nothing, an older plan, or one with something of it taken away by others.
damaged = st.builds(
    lambda state, kind: _damage(state, kind),
    states,
    st.sampled_from(["nothing", "none", "device", "tables", "rules", "maps"]),
)


def _damage(state: KernelState, kind: str) -> KernelState:
    device_ways = frozenset(way for way in state.ways if not way.device)
    cuts: dict[str, dict[str, object]] = {
        "none": {},
        "device": {"device": None, "ways": device_ways, "programs": "", "sysctls": {}},
        "tables": {"chains": (), "covered": frozenset(), "cluster": frozenset(), "egress": {}},
        "rules": {"rules": frozenset(list(state.rules)[1:])},
        "maps": {"routes": {}, "paths": {}, "peers": frozenset()},
    }
    return KernelState() if kind == "nothing" else msgspec.structs.replace(state, **cuts[kind])


@given(states, damaged)
@settings(max_examples=examples.count(60), deadline=None)
def test_carrying_out_the_difference_makes_actual_what_was_desired(
    wanted: KernelState, held: KernelState
) -> None:
    kernel = fake_kernel.FakeKernel(held)
    kernel.apply(changes.diff(wanted, held, CHAINS))
    assert kernel.state == wanted or _only_sysctls_left(kernel.state, wanted)
    assert changes.diff(wanted, kernel.state, CHAINS) == []


def _only_sysctls_left(held: KernelState, wanted: KernelState) -> bool:
    """Settings of interfaces that no longer matter stay: giving them back is `clean`'s business."""
    return (
        held.sysctls.items() >= wanted.sysctls.items()
        and msgspec.structs.replace(held, sysctls=wanted.sysctls) == wanted
    )


@given(states)
@settings(max_examples=examples.count(20), deadline=None)
def test_what_is_in_place_needs_no_change(wanted: KernelState) -> None:
    assert changes.diff(wanted, wanted, CHAINS) == []


@given(states, states)
@settings(max_examples=examples.count(80), deadline=None)
def test_every_intermediate_state_is_old_or_new_or_drops(wanted: KernelState, held: KernelState) -> None:
    allowed = {(pod, target): _allowed(wanted, held, pod, target) for pod in PODS for target in DESTINATIONS}

    def watch(state: KernelState) -> None:
        for (pod, target), answers in allowed.items():
            assert fake_kernel.fate(state, pod, target) in answers, (pod, target)

    fake_kernel.FakeKernel(held, watch).apply(changes.diff(wanted, held, CHAINS))


def _allowed(wanted: KernelState, held: KernelState, pod: str, target: str) -> set[decisions.Decision]:
    """Dropped, old, new; and as a group's path is one value for all its sets, old routes by new paths."""
    answers = {fake_kernel.fate(state, pod, target) for state in (held, wanted)}
    both = {**held.paths, **wanted.paths}
    moved = msgspec.structs.replace(held, paths=both, egress={**held.egress, **wanted.egress})
    return {*answers, fake_kernel.fate(moved, pod, target), decisions.DROPPED}


@given(states, states)
@settings(max_examples=examples.count(60), deadline=None)
def test_every_pod_whose_packets_change_their_fate_has_its_connections_looked_at(
    wanted: KernelState, held: KernelState
) -> None:
    kernel = fake_kernel.FakeKernel(held)
    kernel.apply(changes.diff(wanted, held, CHAINS))
    looked_at = {pod for change in kernel.forgotten for pod in change.pods}
    old, new = decisions.Tables(held), decisions.Tables(wanted)
    changed = {pod for pod in PODS for target in DESTINATIONS if not changes.survives(old, new, pod, target)}
    assert changed <= looked_at


@given(states, states)
@settings(max_examples=examples.count(80), deadline=None)
def test_connections_of_every_slot_that_lost_its_address_are_forgotten(
    wanted: KernelState, held: KernelState
) -> None:
    kernel = fake_kernel.FakeKernel(held)
    kernel.apply(changes.diff(wanted, held, CHAINS))
    assert set(kernel.forgotten_slots) == {s for s, ip in held.egress.items() if wanted.egress.get(s) != ip}


@given(
    st.sets(st.sampled_from(PODS)),
    route_sets,
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=examples.count(60), deadline=None)
def test_the_oracle_finds_the_longest_prefix(
    pods: set[str], found: tuple[rows.Route, ...], target: int
) -> None:
    plan = desired.Desired(
        node="node1",
        endpoints=tuple(rows.Endpoint(ip=pod, set="s1", bucket=0, pod="p") for pod in sorted(pods)),
        sets={"s1": found},
    )
    state = lowering.lower(plan, lowering.Environment(node="node1")).state
    address = ipaddress.IPv4Address(target)
    holding = [route for route in found if address in ipaddress.ip_network(route.cidr)]
    best = max(holding, key=lambda route: ipaddress.ip_network(route.cidr).prefixlen, default=None)
    untouched = best is None or best.action is rows.Action.EXCLUDE
    for pod in pods:
        answer = decisions.classify(decisions.Tables(state), pod, target)
        assert (answer.kind is decisions.Kind.UNTOUCHED) == untouched
