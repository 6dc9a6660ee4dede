"""Which parts of a KernelState a list of changes may have altered: what must be read back after them.

Part of diff's way back. A pod event touches one set and one map; reading the whole kernel after it would cost
ten times what the change did. Says None, everything, whenever a change reaches further than that.
"""

import enum
from collections.abc import Iterable

from ebbgate_programmer.core import changes


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


def touched(done: Iterable[changes.Change]) -> frozenset[Part] | None:
    """The parts that `done` may have altered; None if it may be anything."""
    parts: set[Part] = set()
    for change in done:
        match change:
            case changes.Put() | changes.Drop():
                parts.add(_MAPS[change.map])
            case changes.UpdateSets():
                names = [held.name for held in (*change.removed, *change.added)]
                if any(name not in _SETS for name in names):
                    return None
                parts.update(_SETS[name] for name in names)
            case changes.ForgetPods() | changes.ForgetSlots() | changes.ForgetStale():
                pass  # connections are no part of a KernelState
            case _:
                return None
    return frozenset(parts)
