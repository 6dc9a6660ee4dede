"""The inventory: all current facts and reports, indexed. Fact ─fold▶ Inventory.

Folding replaces whole objects and so doesn't depend on the order between objects. What was folded decides
nothing here: facts of a node without Node are kept, and ignored by whoever asks (`network`, `report`), so
that the Node may come after them. It notes which objects changed, so that whoever follows it needn't look at
the others; an object that is as it was before isn't among them.
"""

from collections.abc import Iterable, Mapping, Set
from typing import Any

import msgspec

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
_SHARED_MAX = 65536
"""Label sets and words kept to be shared; then sharing begins anew, which costs memory and nothing else."""

PodKey = tuple[str, str]
"""Namespace and name."""


class Touched(msgspec.Struct):
    """Keys of what changed since it was last asked for."""

    pods: set[PodKey] = set()
    namespaces: set[str] = set()
    nodes: set[str] = set()
    policies: set[str] = set()
    service_cidrs: set[str] = set()
    networks: set[str] = set()
    synced: set[str] = set()
    reports: set[str] = set()


class Inventory:
    """Keys are names, for pods (namespace, name)."""

    def __init__(self) -> None:
        self.pods: dict[PodKey, facts.Pod] = {}
        self.namespaces: dict[str, facts.Namespace] = {}
        self.nodes: dict[str, facts.Node] = {}
        self.policies: dict[str, facts.Policy] = {}
        self.service_cidrs: dict[str, facts.ServiceCidr] = {}
        self.networks: dict[str, facts.NodeNetwork] = {}
        self.synced: dict[str, facts.Synced] = {}
        self.reports: dict[str, reports.Applied] = {}
        self.unreadable: set[str] = set()
        """Subjects that hold something, and nobody here knows what."""
        self._touched = Touched()
        self._nodes_at: dict[str, set[str]] = {}
        self._shared_labels: dict[frozenset[tuple[str, str]], dict[str, str]] = {}
        self._shared_words: dict[str, str] = {}

    def fold(self, subject: str, message: Message | facts.Gone) -> None:
        """Subjects that are neither facts nor reports are none of the inventory's and pass it by."""
        name = subjects.parse(subject)
        self.unreadable.discard(subject)
        if name is None or name.kind not in _MAPS:
            return
        attribute = _MAPS[name.kind]
        kept: dict[object, object] = getattr(self, attribute)
        key = name.ids if name.kind == "fact.pod" else name.ids[0]
        if name.kind == "fact.policy":
            self._touched.policies.add(name.ids[0])  # it may have been unreadable until now
        if name.kind == "fact.node" and kept.get(key) != message:
            self._put_addresses(name.ids[0], message.internal_ips if isinstance(message, facts.Node) else ())
        if isinstance(message, facts.Gone):
            if kept.pop(key, None) is not None:
                getattr(self._touched, attribute).add(key)
        elif kept.get(key) != message:
            kept[key] = self._with_shared_texts(message) if isinstance(message, facts.Pod) else message
            getattr(self._touched, attribute).add(key)

    def _put_addresses(self, node: str, now: Iterable[str]) -> None:
        """Nodes that share an address with this one, before or now, are touched by what happens to it."""
        known = self.nodes.get(node)
        for ip in set(known.internal_ips if known else ()):
            self._nodes_at[ip].discard(node)
            self._touched.nodes |= self._nodes_at[ip]
            if not self._nodes_at[ip]:
                del self._nodes_at[ip]
        for ip in set(now):
            self._touched.nodes |= self._nodes_at.get(ip, set())
            self._nodes_at.setdefault(ip, set()).add(node)

    def cannot_read(self, subject: str) -> None:
        """What `subject` holds now is unknown; what was known of it stays."""
        self.unreadable.add(subject)
        name = subjects.parse(subject)
        if name is not None and name.kind == "fact.policy":
            self._touched.policies.add(name.ids[0])

    def _with_shared_texts(self, pod: facts.Pod) -> facts.Pod:
        """Pods of one workload share their labels: 150,000 of them fit in memory, and compare fast."""
        key = frozenset(pod.labels.items())
        if len(self._shared_labels) >= _SHARED_MAX or len(self._shared_words) >= _SHARED_MAX:
            self._shared_labels.clear()
            self._shared_words.clear()
        msgspec.structs.force_setattr(pod, "labels", self._shared_labels.setdefault(key, pod.labels))
        msgspec.structs.force_setattr(pod, "node", self._shared_words.setdefault(pod.node, pod.node))
        return pod

    def take_touched(self) -> Touched:
        touched, self._touched = self._touched, Touched()
        return touched

    def forget_facts(self, but: set[str]) -> None:
        """All facts go, but those whose subjects are in `but`."""
        known = [subject for subject in self._fact_subjects() if subject not in but]
        for subject in known:
            self.fold(subject, facts.GONE)
        self.unreadable &= but

    def of_kind(self, kind: str) -> Mapping[Any, object]:
        """All facts of a kind, by their keys."""
        kept: Mapping[Any, object] = getattr(self, _MAPS[f"fact.{kind}"])
        return kept

    def _fact_subjects(self) -> list[str]:
        named = [subjects.fact("pod", *key) for key in self.pods]
        for kind, attribute in _MAPS.items():
            if kind.startswith("fact.") and kind != "fact.pod":
                named += [
                    subjects.fact(kind.removeprefix("fact."), name) for name in getattr(self, attribute)
                ]
        return named + [subjects.synced(kind) for kind in self.synced]

    def forget_reports(self, but: set[str]) -> None:
        for subject in [subjects.status(node) for node in self.reports]:
            if subject not in but:
                self.fold(subject, facts.GONE)

    @property
    def complete(self) -> bool:
        """All kinds of the watcher's are known in full: only then is an absence a reason to remove."""
        return all(kind in self.synced for kind in facts.KINDS)

    def nodes_at(self, ip: str) -> Set[str]:
        """Nodes that have this internal address; there should be one."""
        return self._nodes_at.get(ip, set())

    def network(self, node: str) -> facts.NodeNetwork | None:
        return self.networks.get(node) if node in self.nodes else None

    def report(self, node: str) -> reports.Applied | None:
        return self.reports.get(node) if node in self.nodes else None
