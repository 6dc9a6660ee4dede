"""Small facts for the tests of the resolver's core; each argument says what a test is about."""

import json
from typing import Any

import msgspec

from ebbgate_bus.contracts import codec, facts, reports, rows, subjects
from ebbgate_bus.contracts.envelope import Outgoing, Stored
from ebbgate_bus.contracts.message import Message
from ebbgate_resolver.core import engine, inventory


def node(name: str, ip: str = "", **labels: str) -> facts.Node:
    ips = (ip,) if ip else ()
    return facts.Node(name=name, labels=labels, internal_ips=ips, addresses=ips)


def network(name: str, *addresses: str, interface: str = "eth0", **changed: Any) -> facts.NodeNetwork:
    default = tuple(
        family for family in ("ipv4", "ipv6") if any((":" in a) == (family == "ipv6") for a in addresses)
    )
    made = facts.Interface(name=interface, index=2, addresses=addresses, default_route=default)
    return facts.NodeNetwork(node=name, interfaces=(msgspec.structs.replace(made, **changed),))


def pod(name: str, on: str, *ips: str, **labels: str) -> facts.Pod:
    return facts.Pod(
        namespace="default", name=name, uid=f"uid-{name}", node=on, ips=ips, labels=labels, phase="Running"
    )


def policy(name: str, *destinations: str, created: str = "", **spec: Any) -> facts.Policy:
    whole = {
        "selectors": [{"podSelector": {}}],
        "destinationCIDRs": list(destinations),
        "egressGateway": {"nodeSelector": {"matchLabels": {"gw": "yes"}}},
    } | spec
    raw = msgspec.Raw(json.dumps(whole, sort_keys=True).encode())
    return facts.Policy(name=name, uid=f"uid-{name}", generation=1, created=created, spec=raw)


def subject_of(fact: Message) -> str:
    match fact:
        case facts.Pod():
            return subjects.fact("pod", fact.namespace, fact.name)
        case facts.NodeNetwork():
            return subjects.fact("nodenetwork", fact.node)
        case facts.Synced():
            return subjects.synced(fact.kind)
        case reports.Applied():
            return subjects.status(fact.node)
        case facts.Node() | facts.Namespace() | facts.Policy() | facts.ServiceCidr():
            return subjects.fact(type(fact).__name__.lower(), fact.name)
        case _:
            raise TypeError(type(fact).__name__)


def stored(fact: Message, **headers: str) -> Stored:
    return Stored(subject_of(fact), codec.encode(fact), 0, headers)


def gone(fact: Message) -> Stored:
    return Stored(subject_of(fact), b"", 0)


SYNCED = tuple(facts.Synced(kind=kind) for kind in facts.KINDS)
"""As messages: all kinds are known in full."""


def inventory_of(*messages: Message) -> inventory.Inventory:
    known = inventory.Inventory()
    for message in (*SYNCED, *messages):
        known.fold(subject_of(message), message)
    return known


def resolver_of(*messages: Message, synced: bool = True) -> engine.Resolver:
    """A resolver that owns an empty PLAN."""
    resolver = engine.Resolver()
    resolver.epoch = 1
    resolver.replace_facts([stored(each) for each in (*(SYNCED if synced else ()), *messages)])
    resolver.replace_reports([])
    resolver.replace_plan([], 0.0)
    return resolver


def step(resolver: engine.Resolver, now_s: float = 1.0) -> dict[str, bytes]:
    """Step and store; subject → payload of what was written."""
    made = resolver.step(now_s)
    resolver.stored(made)
    return {message.subject: message.payload for message in messages_of(made)}


def messages_of(made: engine.Step) -> list[Outgoing]:
    return [message for batch in made.batches for message in batch]


def group_of(resolver: engine.Resolver, name: str) -> rows.Group:
    subject = subjects.group(f"uid-{name}")
    row = codec.decode(subject, resolver.live_rows[subject])
    assert isinstance(row, rows.Group)
    return row


def egress_of(resolver: engine.Resolver) -> dict[tuple[str, int], str]:
    """Node and slot → egress IP."""
    found = {}
    for subject, payload in resolver.live_rows.items():
        row = codec.decode(subject, payload)
        name = subjects.parse(subject)
        if name is not None and isinstance(row, rows.Egress):
            found[name.node, int(name.ids[0])] = row.egress_ip
    return found


def applied(resolver: engine.Resolver, name: str, *, all_revision: int = 10**6) -> reports.Applied:
    """What a programmer reports that did all it was told."""
    slots = {str(slot): ip for (node_, slot), ip in egress_of(resolver).items() if node_ == name}
    return reports.Applied(node=name, all_revision=all_revision, node_revision=10**6, slots=slots)
