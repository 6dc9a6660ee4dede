"""Random worlds rich enough for the oracle: both families, several gateways, expressions, collisions.

Few names and few addresses, so that policies overlap, pods share addresses and gateways come and go.
"""

from typing import Any

import msgspec
from hypothesis import strategies as st

from ebbgate_bus.contracts import facts
from ebbgate_bus.contracts.message import Message
from tests.unit import resolver_objects as objects

NODES = ["n1", "n2", "n3"]
DESTINATIONS = [
    "20.0.0.1",
    "20.1.0.1",
    "20.1.1.1",
    "20.2.0.1",
    "99.9.9.9",
    "10.96.0.1",
    "10.0.0.1",
    "169.254.169.254",
    "2001:db8:1::1",
    "2001:db8:2::1",
    "2600::1",
    "fe80::1",
]
CIDRS = [
    "0.0.0.0/0",
    "20.0.0.0/8",
    "20.1.0.0/16",
    "20.1.1.1/24",
    "20.1.1.1/32",
    "::/0",
    "2001:db8::/32",
    "2001:db8:1::/48",
]
TIMES = ["", "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"]

Change = Message | tuple[str, None]
"""An object as it is now, or the subject of one that is gone."""


@st.composite
def nodes(draw: st.DrawFn) -> facts.Node:
    name = draw(st.sampled_from(NODES))
    labels = draw(st.sampled_from([{}, {"gw": "yes"}, {"gw": "yes", "zone": "b"}, {"zone": "b"}]))
    ips = draw(
        st.sampled_from(
            [(f"10.0.0.{name[1]}",), (f"fd0a::{name[1]}", f"10.0.0.{name[1]}"), (f"fd0a::{name[1]}",), ()]
        )
    )
    cidrs = draw(st.sampled_from([(), (f"10.{name[1]}.0.0/16",)]))
    return facts.Node(name=name, labels=labels, internal_ips=ips, addresses=ips, pod_cidrs=cidrs)


@st.composite
def networks(draw: st.DrawFn) -> facts.NodeNetwork:
    choices = st.lists(st.sampled_from(["192.0.2.1/24", "192.0.2.2/24", "2001:db8:f::1/64"]), unique=True)
    interfaces = [
        facts.Interface(
            name=name,
            index=draw(st.sampled_from([index, 9 - index])),
            alt_names=draw(st.sampled_from([(), ("uplink",)])),
            addresses=tuple(draw(choices)),
            default_route=draw(st.sampled_from([(), ("ipv4",), ("ipv6",), ("ipv4", "ipv6")])),
        )
        for index, name in enumerate(draw(st.sampled_from([(), ("eth0",), ("eth0", "eth1")])))
    ]
    return facts.NodeNetwork(node=draw(st.sampled_from(NODES)), interfaces=tuple(interfaces))


@st.composite
def pods(draw: st.DrawFn) -> facts.Pod:
    number = draw(st.integers(1, 3))
    four, six = f"10.1.0.{number}", f"fd00::{number}"
    made = objects.pod(
        draw(st.sampled_from("pqrs")),
        draw(st.sampled_from([*NODES, *NODES, "n9"])),
        *draw(st.sampled_from([(four,), (four, six), (six,), ()])),
        **draw(st.sampled_from([{"app": "a"}, {"app": "b"}, {"app": "a", "tier": "x"}, {}])),
    )
    return msgspec.structs.replace(
        made,
        namespace=draw(st.sampled_from(["default", "other"])),
        uid=f"uid-{draw(st.integers(0, 9))}-{made.name}",
        phase=draw(st.sampled_from(["Running", "Running", "Running", "Pending", "Succeeded"])),
        host_network=draw(st.sampled_from([False, False, False, False, True])),
        created=draw(st.sampled_from(TIMES)),
    )


@st.composite
def selectors(draw: st.DrawFn) -> dict[str, Any]:
    """One item of `selectors`."""
    expressions = st.sampled_from(
        [
            {"key": "app", "operator": "In", "values": ["a", "c"]},
            {"key": "app", "operator": "NotIn", "values": ["b"]},
            {"key": "tier", "operator": "Exists"},
            {"key": "tier", "operator": "DoesNotExist"},
        ]
    )
    labels = st.sampled_from([{}, {}, {"app": "a"}, {"io.kubernetes.pod.namespace": "other"}])
    found: dict[str, Any] = {"podSelector": {"matchLabels": draw(labels)}}
    if draw(st.integers(0, 2)) == 0:
        found["podSelector"]["matchExpressions"] = draw(st.lists(expressions, max_size=2))
    if draw(st.integers(0, 3)) == 0:
        wanted = st.sampled_from([{"team": "x"}, {"kubernetes.io/metadata.name": "default"}])
        found["namespaceSelector"] = {"matchLabels": draw(wanted)}
    if draw(st.integers(0, 3)) == 0:
        found["nodeSelector"] = {"matchLabels": {"zone": "b"}}
    return found


@st.composite
def gateways(draw: st.DrawFn) -> dict[str, Any]:
    wanted = draw(st.sampled_from([{"gw": "yes"}, {"gw": "yes"}, {"zone": "b"}, {}]))
    ways = [{}, {"interface": "eth0"}, {"interface": "uplink"}, {"egressIP": "192.0.2.2"}]
    ways.append({"egressIP": "2001:db8:f::1"})
    return {"nodeSelector": {"matchLabels": wanted}} | draw(st.sampled_from(ways))


@st.composite
def policies(draw: st.DrawFn) -> facts.Policy:
    spec: dict[str, Any] = {
        "selectors": draw(st.lists(selectors(), min_size=draw(st.sampled_from([0, 1, 1, 1])), max_size=2)),
        "egressGateway": draw(gateways()),
        "excludedCIDRs": draw(st.lists(st.sampled_from(CIDRS), max_size=1)),
    }
    if draw(st.booleans()):
        spec["egressGateways"] = draw(st.lists(gateways(), max_size=3))
    if draw(st.integers(0, 7)) == 0:
        spec["destinationCIDRs"] = ["nonsense"]
    destinations = draw(
        st.lists(st.sampled_from(CIDRS), min_size=draw(st.sampled_from([0, 1, 2])), max_size=4)
    )
    name, created = draw(st.sampled_from("xyz")), draw(st.sampled_from(TIMES))
    return objects.policy(name, *destinations, created=created, **spec)


def changes() -> st.SearchStrategy[Change]:
    namespaces = st.builds(
        facts.Namespace,
        name=st.sampled_from(["default", "other"]),
        labels=st.sampled_from([{}, {"team": "x"}]),
    )
    service = st.just(facts.ServiceCidr(name="kubernetes", cidrs=("10.96.0.0/12",)))
    alive = st.one_of(nodes(), networks(), pods(), policies(), policies(), namespaces, service)
    return st.one_of(alive, alive, alive, alive.map(lambda each: (objects.subject_of(each), None)))


GATEWAY = facts.Node(
    name="n1", labels={"gw": "yes"}, internal_ips=("10.0.0.1",), addresses=("10.0.0.1",), pod_cidrs=()
)
NETWORK = facts.NodeNetwork(
    node="n1",
    interfaces=(
        facts.Interface(
            name="eth0",
            index=2,
            addresses=("192.0.2.1/24", "192.0.2.2/24", "2001:db8:f::1/64"),
            default_route=("ipv4", "ipv6"),
        ),
    ),
)
"""With these two most policies find a gateway, so that more than drops is compared."""


@st.composite
def histories(draw: st.DrawFn) -> list[list[Change]]:
    """Steps of changes. The first makes a whole world at once: from small lists hypothesis seldom builds one
    in which a packet is steered.
    """
    first: list[Change] = list(draw(st.lists(pods(), min_size=3, max_size=6)))
    first += draw(st.lists(policies(), min_size=2, max_size=5))
    first += draw(st.lists(st.one_of(nodes(), networks()), min_size=2, max_size=6))
    later = draw(st.lists(st.lists(changes(), min_size=1, max_size=6), max_size=3))
    return [[*first, GATEWAY, NETWORK], *later]
