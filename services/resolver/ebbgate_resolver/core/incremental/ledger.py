"""Which nodes have what they need of each policy in their kernel: remembered, since revisions don't tell.

Leg: Applied ─▶ Verdict. A Commit moves with every unrelated pod, and a verdict that followed it would say
"waiting" and "applied" again with every pod that starts anywhere. So a node that has once applied a policy's
rows counts until these rows change. After a restart only what is applied just now counts, which in a world at
rest is the same. What a policy needs on a node is kept as a mark, a sum of hashes of rows, compared within
this process only; a step looks at the marks that changed and at the nodes that reported.
"""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from ebbgate_bus.contracts import codec, rows, subjects
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_resolver.core import inventory
from ebbgate_resolver.core.rules import gateways


class Mark(msgspec.Struct, gc=False):
    """Of a policy's rows of one node: their sum, how many they are, and the sum when last looked at."""

    total: int = 0
    count: int = 0
    seen: int = 0


class Ledger:
    """`programmed`: policy → those of its nodes that have its rows."""

    def __init__(self) -> None:
        self.programmed: dict[str, set[str]] = {}
        self._marks: dict[str, dict[str, Mark]] = {}
        self._nodes: dict[str, set[str]] = {}
        self._serving: dict[str, dict[str, int]] = {}
        self._suspects: dict[str, set[str]] = {}

    def count(self, policy: str, node: str, mark: int, difference: int) -> None:
        """A row of the policy on the node was added (1) or removed (-1). `mark`: its hash."""
        of_node = self._marks.setdefault(node, {})
        kept = of_node.setdefault(policy, Mark())
        kept.total += mark * difference
        kept.count += difference
        self._nodes.setdefault(policy, set()).add(node)
        self._suspects.setdefault(node, set()).add(policy)

    def put_gateways(self, policy: str, found: Iterable[gateways.Gateway]) -> None:
        """The policy's gateways with egress IP are these now."""
        now: dict[str, int] = {}
        for gateway in found:
            if gateway.egress:
                mark = hash(tuple(sorted(address.ip for address in gateway.egress.values())))
                now[gateway.node] = now.get(gateway.node, 0) + mark
        before = self._serving.pop(policy, {})
        if now:
            self._serving[policy] = now
        for node in before.keys() | now.keys():
            if before.get(node) != now.get(node):
                for marks, difference in ((before, -1), (now, 1)):
                    if node in marks:
                        self.count(policy, node, marks[node], difference)

    def put_shared(self, policy: str) -> None:
        """Rows that all the policy's nodes need have changed."""
        nodes = self._nodes.get(policy, set())
        for node in nodes:
            self._marks[node][policy].seen = ~self._marks[node][policy].total
            self._suspects.setdefault(node, set()).add(policy)

    def settle(self, reported: Iterable[str], up_to_date: Callable[[str], bool]) -> set[str]:
        """`reported`: nodes that may have become up to date. Policies of which more or fewer nodes count."""
        touched = set()
        for node, suspects in self._suspects.items():
            has_all = up_to_date(node)
            for policy in suspects:
                mark = self._marks[node][policy]
                changed, mark.seen = mark.total != mark.seen, mark.total
                if changed or not mark.count:
                    touched |= self._set(policy, node, has_all and mark.count > 0)
                if not mark.count:
                    self._forget(policy, node)
        self._suspects.clear()
        for node in reported:
            if self._marks.get(node) and up_to_date(node):
                for policy in self._marks[node]:
                    touched |= self._set(policy, node, True)
        return touched

    def _set(self, policy: str, node: str, has: bool) -> set[str]:
        nodes = self.programmed.setdefault(policy, set())
        if has == (node in nodes):
            return set()
        (nodes.add if has else nodes.discard)(node)
        return {policy}

    def _forget(self, policy: str, node: str) -> None:
        del self._marks[node][policy]
        self._nodes[policy].discard(node)
        if not self._marks[node]:
            del self._marks[node]
        if not self._nodes[policy]:
            del self._nodes[policy]


class News(msgspec.Struct, frozen=True):
    """Commits as they are once a step's batches are stored: `written` before `stored`; None is removed."""

    stored: Mapping[str, rows.Commit]
    written: Mapping[str, rows.Commit | None]

    def commit(self, scope: str) -> rows.Commit | None:
        return self.written[scope] if scope in self.written else self.stored.get(scope)


def is_up_to_date(node: str, known: inventory.Inventory, news: News) -> bool:
    """Whether the node's report has reached the Commits of both its scopes."""
    report, shared = known.report(node), news.commit(subjects.ALL_SCOPE)
    own = news.commit(subjects.node_scope(node))
    if report is None or shared is None or own is None:
        return False
    return report.node_revision >= own.revision and report.all_revision >= shared.revision


def commits_of(batches: Iterable[Iterable[Outgoing]]) -> dict[str, rows.Commit | None]:
    """The Commits in `batches`, as they are when all are stored."""
    found: dict[str, rows.Commit | None] = {}
    for message in (message for batch in batches for message in batch):
        name = subjects.parse(message.subject) if message.subject.endswith(".commit") else None
        if name is not None and name.kind == "plan.commit":
            decoded = codec.decode(message.subject, message.payload)
            found[name.scope] = decoded if isinstance(decoded, rows.Commit) else None
    return found
