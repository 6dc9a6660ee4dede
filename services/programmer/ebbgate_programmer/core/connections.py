"""Which connections can't go on as they began, when what their packets meet changes. Part of diff.

A connection whose fate changes is forgotten: its next packet begins it anew, under the new rules, and a TCP
peer that knows nothing of it answers with a reset. One whose fate stays isn't touched.
"""

from ebbgate_programmer.core import decisions, marks, sharded
from ebbgate_programmer.core.kernelstate import EndpointValue, KernelState, PathKey


def affected(after: KernelState, before: KernelState) -> tuple[str, ...]:
    """Pods some of whose packets may have another fate, sorted: a superset, told without any connection."""
    if before.cluster != after.cluster:
        return tuple(sorted(before.covered | after.covered))
    moved = {*sharded.added(after.covered, before.covered), *sharded.added(before.covered, after.covered)}
    moved |= {
        pod
        for pod, _, _ in sharded.differences(after.endpoints, before.endpoints)
        if pod not in moved and pod in after.covered
    }
    changed = _changed(after, before)
    if changed:
        moved |= {pod for pod, at in after.endpoints.items() if at in changed and pod in after.covered}
    return tuple(sorted(moved))


def _changed(after: KernelState, before: KernelState) -> set[EndpointValue]:
    """Places whose look-ups may end elsewhere. Pods share places: there are few, whatever the number of pods,
    and each costs no more than the groups of its set.
    """
    sets = {key.set for key, _, _ in sharded.differences(after.routes, before.routes)}
    paths = {key for key, _, _ in sharded.differences(after.paths, before.paths)}
    if not (sets or paths):
        return set()
    groups: dict[int, set[int]] = {}
    for key, value in after.routes.items():
        groups.setdefault(key.set, set()).add(value.group)
    return {
        at
        for at in set(after.endpoints.values())
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
