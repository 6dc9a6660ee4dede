"""Whom a message is about: the filters of `ebbgate tap`. Pure."""

from collections.abc import Iterable

import msgspec

from ebbgate_bus.contracts import catalog, facts, reports, rows, streams, subjects
from ebbgate_bus.contracts.message import Message
from ebbgate_cli.happenings import Happening


def _kinds(messages: Iterable[catalog.Entry]) -> tuple[str, ...]:
    kinds = {entry.kind for entry in messages}
    return tuple(sorted(kinds | {kind.partition(".")[0] for kind in kinds}))


KINDS = _kinds(entry for entry in catalog.ENTRIES if streams.of(entry.subject) in streams.STATE)
"""Of what is said on `live`."""
KINDS_KEPT = _kinds(e for e in catalog.ENTRIES if streams.of(subjects.live(e.subject)) is streams.JOURNAL)
"""Of what the journal has of it."""


class Filters(msgspec.Struct, frozen=True):
    """All that are given must hold; empty ones do. `kind`: "fact" stands for every "fact.…"."""

    kind: str = ""
    namespace: str = ""
    policy: str = ""
    node: str = ""


def holds(wanted: Filters, of: Happening) -> bool:
    """What can't be read is about nobody in particular."""
    if of.name is None:
        return wanted == Filters()
    return (
        (not wanted.kind or f"{of.name.kind}.".startswith(f"{wanted.kind}."))
        and (not wanted.namespace or wanted.namespace in namespaces(of.name, of.known))
        and (not wanted.policy or wanted.policy in policies(of.name, of.known) | of.policies)
        and (not wanted.node or wanted.node in nodes(of.name, of.known))
    )


def namespaces(name: subjects.Name, message: Message | None) -> set[str]:
    if name.kind in ("fact.pod", "fact.namespace"):
        return {name.ids[0]}
    match message:
        case rows.Endpoint() | reports.Dropped():
            return {message.pod.partition("/")[0]}
    return set()


def policies(name: subjects.Name, message: Message | None) -> set[str]:
    if name.kind in ("fact.policy", "plan.policy", "verdict"):
        return {name.ids[0]}
    match message:
        case rows.Group() | reports.Dropped():
            return {message.policy}
        case rows.Routes() | rows.Egress():
            return set(message.policies)
        case reports.Applied():
            return {problem.policy for problem in message.problems}
        case reports.Stats():
            return set(message.policies)
    return set()


def nodes(name: subjects.Name, message: Message | None) -> set[str]:
    if name.kind in ("fact.node", "fact.nodenetwork", "plan.peer", "status", "stats", "drop"):
        return {name.ids[0]}
    if name.node:
        return {name.node}
    match message:
        case facts.Pod():
            return {message.node}
        case rows.Group():
            both = [family for family in (message.ipv4, message.ipv6) if family]
            return {path.node for family in both for path in family.paths} | set(message.awaiting)
        case reports.Verdict():
            return {gateway.node for gateway in message.gateways} | set(message.nodes_wanted)
    return set()
