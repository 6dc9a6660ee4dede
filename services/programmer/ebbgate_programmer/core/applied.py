"""Applied: what a node answers, from what its kernel holds. The walk's way back begins here.

Slots and counts come from the kernel as read back, never from what was wanted: a gateway's path opens only
on its word. An Applied that says nothing new but how long it took isn't worth publishing.
"""

from collections.abc import Iterable, Mapping

import msgspec

from ebbgate_bus.contracts import envelope, subjects
from ebbgate_bus.contracts.reports import Applied, Problem
from ebbgate_programmer.core import changes, scopes
from ebbgate_programmer.core.kernelstate import KernelState, PathKey, RouteKey

MAX_PROBLEMS = 100
"""More say nothing more, and a message has a limit."""


def report(
    node: str,
    agreed: tuple[scopes.Agreed, scopes.Agreed] | None,
    held: KernelState,
    problems: Iterable[Problem],
) -> Applied:
    """Without drift and time, which the shell counts. `agreed`: of scope `all` and of the node, if known."""
    shared, own = agreed if agreed else (None, None)
    return Applied(
        node=node,
        epoch=max((each.commit.epoch for each in (shared, own) if each), default=0),
        all_revision=shared.commit.revision if shared else 0,
        node_revision=own.commit.revision if own else 0,
        digest=own.commit.digest if own else "",
        slots={str(slot): ip for slot, ip in sorted(held.egress.items())},
        counts=counts(held),
        problems=tuple(problems)[:MAX_PROBLEMS],
    )


def counts(held: KernelState) -> dict[str, int]:
    return {
        "endpoints": len(held.endpoints),
        "routes": len(held.routes),
        "paths": len(held.paths),
        "peers": len(held.peers),
        "slots": len(held.egress),
    }


def says_more(new: Applied, old: Applied | None) -> bool:
    """Whether anything but the time taken changed."""
    return old is None or msgspec.structs.replace(new, took_ms=0.0) != msgspec.structs.replace(
        old, took_ms=0.0
    )


def headers(agreed: tuple[scopes.Agreed, scopes.Agreed]) -> dict[str, str]:
    """When the event behind the newer of both Commits was seen, and its trace."""
    newest = max(agreed, key=lambda each: each.sequence)
    return {name: newest.headers[name] for name in _PASSED_ON if name in newest.headers}


_PASSED_ON = (envelope.SEEN, envelope.TRACEPARENT)


def refusal(node: str, policies: Mapping[int, str], key: changes.Key, reason: str) -> Problem:
    """An entry that the kernel wouldn't take, with the row or policy that it was for."""
    if isinstance(key, RouteKey):
        return Problem(reason=f"route {key.cidr}: {reason}")
    if isinstance(key, PathKey):
        return Problem(reason=f"path of bucket {key.bucket}: {reason}", policy=policies.get(key.group, ""))
    return Problem(reason=f"{key}: {reason}", row=subjects.endpoint(node, key))
