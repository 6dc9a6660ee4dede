"""No prefix of a node's Changes sends a packet to a wrong egress IP or out unchanged."""

import ipaddress

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbgate_bus.contracts import rows
from ebbgate_programmer.core import (
    addresses,
    connections,
    decisions,
    desired,
    firewall,
    lowering,
    ordering,
    uplinks,
)
from ebbgate_programmer.core.kernelstate import KernelState
from tests.properties import examples, fake_kernel

CHAINS = firewall.chains(19021)
PODS = ("10.244.1.10", "10.244.1.11", "fd01::10", "fd01::11")
UIDS = ("uid-1", "uid-2")
CIDRS = ("0.0.0.0/0", "10.168.0.0/16", "10.168.60.0/24", "192.0.2.0/24", "192.0.2.7/32", "10.244.0.0/16")
CIDRS6 = ("::/0", "2001:db8::/32", "2001:db8:7::/48", "fd01::/48")
DESTINATIONS = (
    "10.168.60.13",
    "10.168.1.1",
    "192.0.2.7",
    "192.0.2.8",
    "8.8.8.8",
    "10.244.2.10",
    "169.254.1.1",
    "2001:db8:7::1",
    "2001:db8:8::1",
    "2600::1",
    "fd01::99",
    "fe80::1",
)
PACKETS = [(pod, target) for pod in PODS for target in DESTINATIONS if (":" in pod) == (":" in target)]
GATEWAYS = {"node1": "10.168.60.11", "node2": "10.168.60.12", "node3": "10.168.60.14"}

routes = st.builds(
    rows.Route,
    st.sampled_from(CIDRS + CIDRS6),
    st.sampled_from(list(rows.Action)),
    st.sampled_from(UIDS),
    st.just("p"),
)
route_sets = st.lists(routes, max_size=5, unique_by=lambda route: route.cidr).map(
    lambda found: tuple(sorted(found, key=lambda route: route.cidr))
)
paths = st.sampled_from(sorted(GATEWAYS)).flatmap(
    lambda node: st.builds(
        rows.Path, st.just(node), st.just(GATEWAYS[node]), st.sampled_from([0, 16, 17, 18, 4095])
    )
)
of_family = st.builds(
    lambda chosen, buckets: rows.Paths(paths=tuple(chosen), buckets=tuple(buckets)),
    st.lists(paths, min_size=2, max_size=2),
    st.lists(st.sampled_from([rows.NO_PATH, 0, 1]), min_size=2, max_size=2),
)
groups = st.builds(
    rows.Group, policy=st.just("p"), ipv4=of_family, ipv6=st.one_of(st.none(), of_family, of_family)
)
endpoints = st.lists(
    st.builds(
        rows.Endpoint,
        ip=st.sampled_from(PODS),
        set=st.sampled_from(["s1", "s2", "lost"]),
        bucket=st.sampled_from([0, 1]),
        pod=st.just("default/pod"),
    ),
    max_size=4,
    unique_by=lambda row: row.ip,
)
egress_ips = {16: "10.168.60.100", 17: "10.168.60.101", 18: "2001:db8:f::1", 4095: "10.168.60.102"}
plans = st.builds(
    desired.Desired,
    node=st.just("node1"),
    endpoints=endpoints.map(tuple),
    blind=st.sets(st.sampled_from(["10.244.1.99", "fd01::99"])).map(tuple),
    egress=st.sets(st.sampled_from(sorted(egress_ips))).map(
        lambda slots: {
            slot: rows.Egress(egress_ip=egress_ips[slot], interface=f"eth{slot % 3}")
            for slot in sorted(slots)
        }
    ),
    sets=st.fixed_dictionaries({"s1": route_sets, "s2": route_sets}),
    groups=st.dictionaries(st.sampled_from(UIDS), groups),
    peers=st.sets(st.sampled_from(sorted(GATEWAYS.values()))).map(lambda found: tuple(sorted(found))),
    cluster=st.sets(st.sampled_from(["10.244.0.0/16", "10.168.60.0/25", "fd01::/64"])).map(
        lambda found: tuple(sorted(found))
    ),
)
links = st.sampled_from(
    [
        uplinks.Uplink(),
        uplinks.Uplink(is_default=True, hops=(uplinks.Hop("ipv4", "", "192.0.2.254"),)),
        uplinks.Uplink(
            is_default=True,
            hops=(uplinks.Hop("ipv4", "", "192.0.2.253"), uplinks.Hop("ipv4", "192.0.2.0/24", "")),
        ),
        uplinks.Uplink(is_default=True, hops=(uplinks.Hop("ipv6", "", "fe80::1"),)),
    ]
)
environments = st.builds(
    lowering.Environment,
    node=st.just("node1"),
    underlay_mtu=st.sampled_from([1500, 9000]),
    port=st.just(19021),
    object_hash=st.sampled_from(["aa", "bb"]),
    interfaces=st.just({name: name for name in ("eth0", "eth1", "eth2")}),
    ethernet=st.fixed_dictionaries({"eth0": st.just(uplinks.Uplink(is_default=True)), "eth1": links}),
    families=st.sampled_from([("ipv4",), ("ipv4", "ipv6"), ("ipv4", "ipv6")]),
)
states = st.builds(lambda plan, place: lowering.lower(plan, place).state, plans, environments)
# What a kernel may hold before: nothing, an older plan, or one with something of it taken away by others.
damaged = st.builds(
    lambda state, kind: _damage(state, kind),
    states,
    st.sampled_from(["nothing", "none", "device", "tables", "rules", "maps", "guards", "layout"]),
)


def _damage(state: KernelState, kind: str) -> KernelState:
    device_ways = frozenset(way for way in state.ways if way.device != "ebbgate0")
    cuts: dict[str, dict[str, object]] = {
        "none": {},
        "device": {"device": None, "ways": device_ways, "programs": "", "sysctls": {}},
        "tables": {"chains": (), "covered": frozenset(), "cluster": frozenset(), "egress": {}, "uplinks": {}},
        "rules": {"rules": frozenset(list(state.rules)[1:])},
        "layout": {
            "loaded": "",
            "programs": "",
            "others": frozenset({"v1"}),
            "endpoints": {},
            "routes": {},
            "paths": {},
            "peers": frozenset(),
            "internal": frozenset(),
            "sources": frozenset(),
        },
        "maps": {"routes": {}, "paths": {}, "peers": frozenset(), "internal": frozenset()},
        "guards": {"guarded": frozenset(), "sources": frozenset()},
    }
    return KernelState() if kind == "nothing" else msgspec.structs.replace(state, **cuts[kind])


@given(states, damaged)
@settings(max_examples=examples.count(60), deadline=None)
def test_carrying_out_the_difference_makes_actual_what_was_desired(
    wanted: KernelState, held: KernelState
) -> None:
    kernel = fake_kernel.FakeKernel(held)
    kernel.apply(ordering.diff(wanted, held, CHAINS))
    assert kernel.state == wanted or _only_sysctls_left(kernel.state, wanted)
    assert ordering.diff(wanted, kernel.state, CHAINS) == []


def _only_sysctls_left(held: KernelState, wanted: KernelState) -> bool:
    """Settings of interfaces that no longer matter stay: giving them back is `clean`'s business."""
    return (
        held.sysctls.items() >= wanted.sysctls.items()
        and msgspec.structs.replace(held, sysctls=wanted.sysctls) == wanted
    )


@given(states)
@settings(max_examples=examples.count(20), deadline=None)
def test_what_is_in_place_needs_no_change(wanted: KernelState) -> None:
    assert ordering.diff(wanted, wanted, CHAINS) == []


@given(states, states)
@settings(max_examples=examples.count(80), deadline=None)
def test_every_intermediate_state_is_old_or_new_or_drops(wanted: KernelState, held: KernelState) -> None:
    allowed = {packet: _allowed(wanted, held, *packet) for packet in PACKETS}

    def watch(state: KernelState) -> None:
        for (pod, target), answers in allowed.items():
            assert fake_kernel.fate(state, pod, target) in answers, (pod, target)

    fake_kernel.FakeKernel(held, watch).apply(ordering.diff(wanted, held, CHAINS))


@given(states, states)
@settings(max_examples=examples.count(60), deadline=None)
def test_the_guard_at_the_uplinks_never_takes_what_is_left_alone_before_and_after(
    wanted: KernelState, held: KernelState
) -> None:
    """Packets to the cluster: nobody marks them, so the guard has to know by itself."""
    kept = [
        (pod, target)
        for pod, target in PACKETS
        if all(decisions.is_untouched(decisions.Tables(state), target) for state in (held, wanted))
    ]

    def watch(state: KernelState) -> None:
        for pod, target in kept:
            assert not fake_kernel.is_stopped(state, pod, target), (pod, target)

    fake_kernel.FakeKernel(held, watch).apply(ordering.diff(wanted, held, CHAINS))


def _allowed(wanted: KernelState, held: KernelState, pod: str, target: str) -> set[decisions.Decision]:
    """Old, new, or dropped."""
    answers = {fake_kernel.fate(state, pod, target) for state in (held, wanted)}
    return {*answers, decisions.DROPPED}


@given(states, states)
@settings(max_examples=examples.count(60), deadline=None)
def test_every_pod_whose_packets_change_their_fate_has_its_connections_looked_at(
    wanted: KernelState, held: KernelState
) -> None:
    kernel = fake_kernel.FakeKernel(held)
    kernel.apply(ordering.diff(wanted, held, CHAINS))
    looked_at = {pod for change in kernel.forgotten for pod in change.pods}
    old, new = decisions.Tables(held), decisions.Tables(wanted)
    changed = {pod for pod, target in PACKETS if not connections.survives(old, new, pod, target)}
    assert changed <= looked_at


@given(states, states)
@settings(max_examples=examples.count(80), deadline=None)
def test_connections_of_every_slot_that_lost_its_address_are_forgotten(
    wanted: KernelState, held: KernelState
) -> None:
    kernel = fake_kernel.FakeKernel(held)
    kernel.apply(ordering.diff(wanted, held, CHAINS))
    assert set(kernel.forgotten_slots) == {s for s, ip in held.egress.items() if wanted.egress.get(s) != ip}


@given(
    st.sets(st.sampled_from(PODS)),
    route_sets,
    st.one_of(st.integers(0, 2**32 - 1).map(lambda n: n | 0xFFFF << 32), st.integers(2**96, 2**128 - 1)),
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
    address = ipaddress.ip_address(addresses.text(target))
    holding = [route for route in found if address in ipaddress.ip_network(route.cidr)]
    best = max(holding, key=lambda route: ipaddress.ip_network(route.cidr).prefixlen, default=None)
    untouched = best is None or best.action is rows.Action.EXCLUDE
    for pod in pods & state.endpoints.keys():
        if addresses.family(pod) != addresses.family(str(address)):
            continue
        answer = decisions.classify(decisions.Tables(state), pod, target)
        assert (answer.kind is decisions.Kind.UNTOUCHED) == untouched
