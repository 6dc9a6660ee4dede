"""Which connections can't go on as they began, when what their packets meet changes. Part of diff.

A connection whose fate changes is forgotten: its next packet begins it anew, under the new rules, and a TCP
peer that knows nothing of it answers with a reset. One whose fate stays isn't touched.
"""

from ebbgate_programmer.core import decisions, marks
from ebbgate_programmer.core.kernelstate import KernelState, PathKey, RouteKey, RouteValue


def affected(after: KernelState, before: KernelState) -> tuple[str, ...]:
    """Pods some of whose packets may have another fate, sorted: a superset, told without any connection."""
    if before.cluster != after.cluster:
        return tuple(sorted(before.covered | after.covered))
    old, new = _fates(before), _fates(after)
    return tuple(sorted(pod for pod in old.keys() | new.keys() if old.get(pod) != new.get(pod)))


def _fates(state: KernelState) -> dict[str, object]:
    """Pod → all that its packets' fates depend on."""
    groups: dict[int, set[int]] = {}
    contents: dict[int, list[tuple[RouteKey, RouteValue]]] = {}
    for key, value in state.routes.items():
        groups.setdefault(key.set, set()).add(value.group)
        contents.setdefault(key.set, []).append((key, value))
    whole = {number: frozenset(routes) for number, routes in contents.items()}
    fates: dict[str, object] = {}
    for pod in state.covered:
        at = state.endpoints.get(pod)
        if at is None:
            fates[pod] = "dropped"
            continue
        paths = {group: state.paths.get(PathKey(group, at.bucket)) for group in groups.get(at.set, ())}
        fates[pod] = (whole.get(at.set), paths)
    return fates


def survives(before: decisions.Tables, after: decisions.Tables, source: str, destination: str) -> bool:
    """Whether a connection from pod `source` to the real `destination` keeps its fate."""
    old = decisions.decide(before, source, destination)
    return old == decisions.decide(after, source, destination)


def is_stale(held: decisions.Tables, flow: tuple[str, str], field: int) -> bool:
    """Whether a connection (pod, real destination) with this field of mark began under other tables."""
    match decisions.decide(held, *flow).kind:
        case decisions.Kind.UNTOUCHED:
            return field in (marks.STEERED, marks.LOCAL)
        case decisions.Kind.TUNNEL:
            return field != marks.STEERED
        case decisions.Kind.LOCAL:
            return field != marks.LOCAL
        case decisions.Kind.DROPPED:
            return True
