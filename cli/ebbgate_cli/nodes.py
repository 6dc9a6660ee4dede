"""How each node does: what it should hold, what its kernel holds. Pure; from messages of all streams."""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from ebbgate_bus.contracts import codec, facts, reports, rows, subjects
from ebbgate_bus.contracts.message import Message
from ebbgate_resolver.core import inventory
from ebbgate_resolver.core.rules import gateways

CURRENT, BEHIND, NO_PROGRAMMER = "Current", "Behind", "NoProgrammer"
HEADER = ("NODE", "ADDRESS", "STATE", "ENDPOINTS", "EGRESS IPS", "REVISION", "PROBLEMS")


WIDE = ("APPLIED IN MS", "DRIFT REPAIRED", "DIGEST")


class NodeState(msgspec.Struct, frozen=True):
    """`state`: Current, Behind (a later Commit isn't applied yet), or NoProgrammer (never reported).

    `revision`: applied, of scope `all` and of the node's own. `wanted`: the same of the latest Commits.
    """

    node: str
    address: str
    state: str
    endpoints: int
    egress_ips: tuple[str, ...]
    revision: tuple[int, int]
    wanted: tuple[int, int]
    problems: tuple[str, ...]
    took_ms: float = 0.0
    drift_repairs: int = 0
    digest: str = ""


def states(payloads: Mapping[str, bytes]) -> list[NodeState]:
    """One for each node that Kubernetes knows, by name. `payloads`: subject → payload; unreadable ones are
    left out.
    """
    known = dict(_readable(payloads))
    shared = _revision(known.get(subjects.commit(subjects.ALL_SCOPE)))
    nodes = sorted((m for m in known.values() if isinstance(m, facts.Node)), key=lambda node: node.name)
    twins, endpoints = _twins(nodes), _endpoints(known)
    return [_state(node, known, shared, twins, endpoints[node.name]) for node in nodes]


def _endpoints(known: Iterable[str]) -> Counter[str]:
    """By node."""
    names = [subjects.parse(subject) for subject in known if ".endpoint." in subject]
    return Counter(name.node for name in names if name and name.kind == "plan.endpoint")


def _twins(nodes: Iterable[facts.Node]) -> dict[str, list[str]]:
    """Node → others at its address: none of them is used as a gateway."""
    inventory_ = inventory.Inventory()
    for node in nodes:
        inventory_.fold(subjects.fact("node", node.name), node)
    return {name: gateways.twins(name, inventory_) for name in inventory_.nodes}


def cells(state: NodeState) -> tuple[str, ...]:
    """A line under HEADER."""
    reached, wanted = ("/".join(map(str, pair)) for pair in (state.revision, state.wanted))
    return (
        state.node,
        state.address or "none",
        state.state,
        str(state.endpoints),
        ",".join(state.egress_ips) or "none",
        reached if reached == wanted else f"{reached} of {wanted}",
        "; ".join(state.problems) or "none",
    )


def wide(state: NodeState) -> tuple[str, ...]:
    """Of the same line, under WIDE."""
    return (f"{state.took_ms:.1f}", str(state.drift_repairs), state.digest or "none")


def _readable(payloads: Mapping[str, bytes]) -> Iterable[tuple[str, Message]]:
    for subject, payload in payloads.items():
        try:
            message = codec.decode(subject, payload)
        except codec.Undecodable:
            continue
        if not isinstance(message, facts.Gone):
            yield subject, message


def _state(
    node: facts.Node,
    known: Mapping[str, Message],
    shared: int,
    twins: Mapping[str, list[str]],
    endpoints: int,
) -> NodeState:
    others = ", ".join(twins[node.name])
    clash = (f"{others} has its address too: neither can be a gateway",) if others else ()
    scope = subjects.node_scope(node.name)
    applied = known.get(subjects.status(node.name))
    reported = applied if isinstance(applied, reports.Applied) else reports.Applied(node=node.name)
    wanted = (shared, _revision(known.get(subjects.commit(scope))))
    reached = (reported.all_revision, reported.node_revision)
    current = all(have >= want for have, want in zip(reached, wanted, strict=True))
    return NodeState(
        node=node.name,
        address=next(iter(node.internal_ips), ""),
        state=NO_PROGRAMMER if applied is None else CURRENT if current else BEHIND,
        endpoints=endpoints,
        egress_ips=tuple(sorted(set(reported.slots.values()))),
        revision=reached,
        wanted=wanted,
        problems=(*clash, *(problem.reason for problem in reported.problems)),
        took_ms=reported.took_ms,
        drift_repairs=reported.drift_repairs,
        digest=reported.digest,
    )


def _revision(commit: Message | None) -> int:
    return commit.revision if isinstance(commit, rows.Commit) else 0
