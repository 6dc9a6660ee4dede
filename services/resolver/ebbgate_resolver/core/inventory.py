"""The inventory: all current facts and reports, indexed. Fact ─fold▶ Inventory.

Folding replaces whole objects and so doesn't depend on the order between objects. What was folded decides
nothing here: facts of a node without Node are kept, and ignored by whoever asks (`network`, `report`), so
that the Node may come after them.
"""

from ebbgate_bus.contracts import facts, reports, subjects
from ebbgate_bus.contracts.message import Message

_MAPS = {
    "fact.pod": "pods",
    "fact.namespace": "namespaces",
    "fact.node": "nodes",
    "fact.policy": "policies",
    "fact.servicecidr": "service_cidrs",
    "fact.nodenetwork": "networks",
    "synced": "synced",
    "status": "reports",
}


class Inventory:
    """Keys are names, for pods (namespace, name)."""

    def __init__(self) -> None:
        self.pods: dict[tuple[str, str], facts.Pod] = {}
        self.namespaces: dict[str, facts.Namespace] = {}
        self.nodes: dict[str, facts.Node] = {}
        self.policies: dict[str, facts.Policy] = {}
        self.service_cidrs: dict[str, facts.ServiceCidr] = {}
        self.networks: dict[str, facts.NodeNetwork] = {}
        self.synced: dict[str, facts.Synced] = {}
        self.reports: dict[str, reports.Applied] = {}
        self.unreadable: set[str] = set()
        """Subjects that hold something, and nobody here knows what."""

    def fold(self, subject: str, message: Message | facts.Gone) -> None:
        """Subjects that are neither facts nor reports are none of the inventory's and pass it by."""
        name = subjects.parse(subject)
        self.unreadable.discard(subject)
        if name is None or name.kind not in _MAPS:
            return
        kept: dict[object, object] = getattr(self, _MAPS[name.kind])
        key = name.ids if name.kind == "fact.pod" else name.ids[0]
        if isinstance(message, facts.Gone):
            kept.pop(key, None)
        else:
            kept[key] = message

    def forget_facts(self) -> None:
        for attribute in set(_MAPS.values()) - {"reports"}:
            setattr(self, attribute, {})
        self.unreadable = set()

    def forget_reports(self) -> None:
        self.reports = {}

    @property
    def complete(self) -> bool:
        """All kinds of the watcher's are known in full: only then is an absence a reason to remove."""
        return all(kind in self.synced for kind in facts.KINDS)

    def network(self, node: str) -> facts.NodeNetwork | None:
        return self.networks.get(node) if node in self.nodes else None

    def report(self, node: str) -> reports.Applied | None:
        return self.reports.get(node) if node in self.nodes else None
