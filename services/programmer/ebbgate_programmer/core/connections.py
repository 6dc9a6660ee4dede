"""Which connections can't go on as they began, when what their packets meet changes. Part of diff.

A connection whose fate changes is forgotten: its next packet begins it anew, under the new rules, and a TCP
peer that knows nothing of it answers with a reset. One whose fate stays isn't touched.
"""

from ebbgate_programmer.core import decisions, marks
from ebbgate_programmer.core.kernelstate import EndpointValue, KernelState, PathKey


def affected(after: KernelState, before: KernelState) -> tuple[str, ...]:
    """Pods some of whose packets may have another fate, sorted: a superset, told without any connection."""
    if before.cluster != after.cluster:
        return tuple(sorted(before.covered | after.covered))
    old, new = _places(before), _places(after)
    moved = {pod for pod in old.keys() | new.keys() if old.get(pod, _LEFT_ALONE) != new.get(pod, _LEFT_ALONE)}
    changed = _changed(after, before, set(filter(None, new.values())))
    if changed:
        moved |= {pod for pod, at in new.items() if at in changed}
    return tuple(sorted(moved))


_LEFT_ALONE = EndpointValue(0, -1)
"""Where a pod is that isn't covered: nowhere that another is."""


def _places(state: KernelState) -> dict[str, EndpointValue | None]:
    """Covered pods → where their look-ups begin; None: they are dropped."""
    return {pod: state.endpoints.get(pod) for pod in state.covered}


def _changed(after: KernelState, before: KernelState, places: set[EndpointValue]) -> set[EndpointValue]:
    """Those of `places` whose look-ups may end elsewhere. Pods share places: there are few, whatever the
    number of pods, and each costs no more than the groups of its set.
    """
    if before.routes == after.routes and before.paths == after.paths:
        return set()
    sets = {key.set for key, _ in before.routes.items() ^ after.routes.items()}
    paths = {key for key, _ in before.paths.items() ^ after.paths.items()}
    groups: dict[int, set[int]] = {}
    for key, value in after.routes.items():
        groups.setdefault(key.set, set()).add(value.group)
    return {
        at
        for at in places
        if at.set in sets or any(PathKey(group, at.bucket) in paths for group in groups.get(at.set, ()))
    }


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
