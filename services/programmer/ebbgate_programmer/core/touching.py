"""Which parts of a KernelState a list of changes may have altered: what must be read back after them.

Part of diff's way back. A pod event touches one element of one set and one entry of one map; reading the
whole kernel after it would cost a hundred times what the change did. Says None, everything, whenever a change
reaches further than that.
"""

import enum
from collections.abc import Iterable

import msgspec

from ebbgate_programmer.core import changes, places


class Part(enum.StrEnum):
    """Fields of a KernelState that can be read by themselves."""

    ENDPOINTS = "endpoints"
    ROUTES = "routes"
    PATHS = "paths"
    PEERS = "peers"
    OWN = "own"
    INTERNAL = "internal"
    SOURCES = "sources"
    COVERED = "covered"
    EGRESS = "egress"
    UPLINKS = "uplinks"


class Touched(msgspec.Struct, frozen=True):
    """`parts`: to be read whole. `pods`: to be asked for by name, in ENDPOINTS and COVERED."""

    parts: frozenset[Part] = frozenset()
    pods: frozenset[str] = frozenset()


MANY = 256
"""Pods; with more of them it is quicker to read the whole parts."""
_OF_PODS = frozenset({Part.ENDPOINTS, Part.COVERED})
_MAPS = {
    changes.Map.ENDPOINT: Part.ENDPOINTS,
    changes.Map.ROUTE: Part.ROUTES,
    changes.Map.PATH: Part.PATHS,
    changes.Map.PEER: Part.PEERS,
    changes.Map.OWN: Part.OWN,
    changes.Map.CLUSTER: Part.INTERNAL,
    changes.Map.EGRESS: Part.SOURCES,
}
_SETS = {
    "covered": Part.COVERED,
    "egress": Part.EGRESS,
    "leaving": Part.EGRESS,
    "zones": Part.EGRESS,
    "uplinks": Part.UPLINKS,
}


def touched(done: Iterable[changes.Change]) -> Touched | None:
    """What `done` may have altered; None if it may be anything."""
    parts: set[Part] = set()
    pods: set[str] = set()
    for change in done:
        match change:
            case changes.Put() | changes.Drop():
                parts.add(_MAPS[change.map])
            case changes.UpdateSets():
                held = (*change.removed, *change.added)
                names = [each.name for each in held if each.name != places.LEFT]
                if any(name not in _SETS for name in names):
                    return None
                parts.update(_SETS[name] for name in names)
            case changes.ForgetPods() | changes.ForgetSlots() | changes.ForgetStale():
                pass  # connections are no part of a KernelState
            case _:
                return None
        pods.update(_pods(change))
    if len(pods) > MANY:
        return Touched(frozenset(parts))
    return Touched(frozenset(parts - _OF_PODS), frozenset(pods))


def _pods(change: changes.Change) -> Iterable[str]:
    match change:
        case changes.Put(map=changes.Map.ENDPOINT):
            return (str(pod) for pod, _ in change.entries)
        case changes.Drop(map=changes.Map.ENDPOINT):
            return map(str, change.keys)
        case changes.UpdateSets():
            held = (*change.removed, *change.added)
            return (pod for each in held if each.name == "covered" for pod in each.elements)
        case _:
            return ()
