"""Random small worlds for properties of the resolver: few names, so that they collide."""

from typing import Any

import msgspec
from hypothesis import strategies as st

from ebbgate_bus.contracts import codec, facts, reports, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.contracts.message import Message
from tests.unit import resolver_objects as objects

NODES = ["n1", "n2", "n3"]
_ip_numbers = st.integers(1, 3)


@st.composite
def nodes(draw: st.DrawFn) -> facts.Node:
    name = draw(st.sampled_from(NODES))
    labels = draw(st.sampled_from([{}, {"gw": "yes"}, {"gw": "yes", "zone": "b"}]))
    return objects.node(name, draw(st.sampled_from([f"10.0.0.{name[1]}", ""])), **labels)


@st.composite
def networks(draw: st.DrawFn) -> facts.NodeNetwork:
    numbers = draw(st.lists(_ip_numbers, unique=True, max_size=3))
    addresses = [f"192.0.2.{i}/24" for i in numbers] + [f"2001:db8::{i}/64" for i in numbers[:1]]
    return objects.network(draw(st.sampled_from(NODES)), *addresses)


@st.composite
def pods(draw: st.DrawFn) -> facts.Pod:
    number = draw(_ip_numbers)
    ips = draw(st.sampled_from([(), (f"10.1.0.{number}",), (f"10.1.0.{number}", f"fd00::{number}")]))
    labels = draw(st.sampled_from([{"app": "a"}, {"app": "b"}, {}]))
    made = objects.pod(draw(st.sampled_from("pqr")), draw(st.sampled_from([*NODES, "n9"])), *ips, **labels)
    return msgspec.structs.replace(made, created=draw(st.sampled_from(["", "2024-01-01T00:00:00Z"])))


@st.composite
def policies(draw: st.DrawFn) -> facts.Policy:
    cidrs = st.sampled_from(["0.0.0.0/0", "20.0.0.0/8", "20.1.0.0/16", "::/0", "nonsense"])
    gateway: dict[str, Any] = {
        "nodeSelector": {"matchLabels": draw(st.sampled_from([{"gw": "yes"}, {"zone": "b"}]))}
    }
    gateway |= draw(st.sampled_from([{}, {"interface": "eth0"}, {"egressIP": "192.0.2.2"}]))
    chosen = draw(st.sampled_from([{}, {"matchLabels": {"app": "a"}}]))
    spec: dict[str, Any] = {"selectors": [{"podSelector": chosen}], "egressGateway": gateway}
    if draw(st.booleans()):
        spec["egressGateways"] = [gateway, {"nodeSelector": {}, "interface": "eth0"}]
    if draw(st.booleans()):
        spec["excludedCIDRs"] = ["20.1.0.0/16"]
    created = draw(st.sampled_from(["", "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"]))
    destinations = draw(st.lists(cidrs, min_size=1, max_size=2))
    return objects.policy(draw(st.sampled_from("xyz")), *destinations, created=created, **spec)


def anything() -> st.SearchStrategy[Message]:
    return st.one_of(nodes(), networks(), pods(), policies())


@st.composite
def messages(draw: st.DrawFn) -> Stored:
    """An object as it is now, or its absence."""
    made = draw(anything())
    return objects.gone(made) if draw(st.integers(0, 4)) == 0 else objects.stored(made)


def report(resolver_rows: dict[str, bytes], node: str, revision: int) -> Stored:
    """What a programmer reports that did all that these rows tell it."""
    slots = {}
    for subject, payload in resolver_rows.items():
        name = subjects.parse(subject)
        if name is not None and name.kind == "plan.egress" and name.node == node:
            row = codec.decode(subject, payload)
            slots[name.ids[0]] = getattr(row, "egress_ip", "")
    applied = reports.Applied(node=node, all_revision=revision, node_revision=revision, slots=slots)
    return Stored(subjects.status(node), codec.encode(applied), 0)
