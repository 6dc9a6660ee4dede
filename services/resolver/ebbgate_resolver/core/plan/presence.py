"""Which nodes still count: those that reported, or beat, not long ago.

Leg: beside Applied ─▶ engine. A dead node must not hold on to egress rows for ever; one that is only slow
must not lose what it uses. Nobody is called silent before the resolver itself has listened for as long.
"""

from collections.abc import Iterable

SILENT_S = 600.0


class Presence:
    def __init__(self) -> None:
        self._heard_s: dict[str, float] = {}

    def heard(self, node: str, now_s: float) -> None:
        self._heard_s[node] = now_s

    def counting(self, nodes: Iterable[str], now_s: float) -> set[str]:
        """Those of `nodes` heard lately; one asked for the first time counts from now on."""
        return {node for node in nodes if now_s - self._heard_s.setdefault(node, now_s) < SILENT_S}
