"""Borders: peers and cluster rows followed node by node. See `surroundings` for what they are.

Leg: a part of Inventory → Rows. A CIDR may have several reasons to be the cluster's (two nodes with one
address); its row goes with the last of them.
"""

from collections.abc import Iterable

from ebbgate_bus.contracts import rows, subjects
from ebbgate_resolver.core import addresses, inventory
from ebbgate_resolver.core.plan import wanted
from ebbgate_resolver.core.rules import surroundings

Origin = tuple[str, str]
"""Kind and name of the object that a CIDR comes from."""


class Borders:
    def __init__(self, known: inventory.Inventory, rows_: wanted.Wanted, setting: Iterable[str]) -> None:
        self._known = known
        self._wanted = rows_
        self._of_origin: dict[Origin, dict[str, str]] = {}
        self._reasons: dict[str, dict[Origin, str]] = {}
        self._replace(("setting", ""), ((cidr, "setting") for cidr in setting))

    def put_node(self, name: str) -> None:
        node = self._known.nodes.get(name)
        self._wanted.put(subjects.peer(name), surroundings.peer(node) if node else None)
        self._replace(("node", name), surroundings.sources_of_node(name, node) if node else ())

    def put_service_cidr(self, name: str) -> None:
        found = self._known.service_cidrs.get(name)
        self._replace(
            ("servicecidr", name), surroundings.sources_of_service_cidr(name, found) if found else ()
        )

    def _replace(self, origin: Origin, sources: Iterable[tuple[str, str]]) -> None:
        found: dict[str, str] = {}
        for text, source in sources:
            network = addresses.network(text)
            if network is not None:
                found[str(network)] = min(source, found.get(str(network), source))
        before = self._of_origin.pop(origin, {})
        if found:
            self._of_origin[origin] = found
        for cidr in before.keys() | found.keys():
            reasons = self._reasons.setdefault(cidr, {})
            reasons.pop(origin, None)
            if cidr in found:
                reasons[origin] = found[cidr]
            self._write(cidr, reasons)

    def _write(self, cidr: str, reasons: dict[Origin, str]) -> None:
        """Of several reasons the first in the alphabet is named."""
        row = rows.Cluster(cidr=cidr, source=min(reasons.values())) if reasons else None
        self._wanted.put(subjects.cluster(cidr), row)
        if not reasons:
            del self._reasons[cidr]
