"""Which nodes have what they need of each policy in their kernel: remembered, since revisions don't tell.

Leg: Applied ─▶ Verdict. A Commit moves with every unrelated pod, and a verdict that followed it would say
"waiting" and "applied" again with every pod that starts anywhere. So a node that has once applied a policy's
rows counts until these rows change. After a restart only what is applied just now counts, which in a world at
rest is the same.
"""

from collections.abc import Mapping, Set

from ebbgate_bus.contracts import rows, subjects
from ebbgate_resolver.core import inventory, resolve

Mark = tuple[int, int]
"""Of a policy's shared rows, and of its rows of one node."""


class Ledger:
    def __init__(self) -> None:
        self._applied: dict[tuple[str, str], Mark] = {}

    def programmed(self, resolution: resolve.Resolution, up_to_date: Set[str]) -> dict[str, set[str]]:
        """Policy → those of its nodes that have its rows. `up_to_date`: nodes that applied everything."""
        wanted = marks(resolution)
        self._applied = {
            key: mark
            for key, mark in wanted.items()
            if key[1] in up_to_date or self._applied.get(key) == mark
        }
        found: dict[str, set[str]] = {}
        for policy, node in self._applied:
            found.setdefault(policy, set()).add(node)
        return found


def up_to_date(known: inventory.Inventory, commits: Mapping[str, rows.Commit]) -> set[str]:
    """Nodes whose report has reached the Commits of both their scopes."""
    all_commit = commits.get(subjects.ALL_SCOPE)
    found = set()
    for node in known.nodes:
        report, own = known.report(node), commits.get(subjects.node_scope(node))
        if report and all_commit and own and report.node_revision >= own.revision:
            found |= {node} if report.all_revision >= all_commit.revision else set()
    return found


def marks(resolution: resolve.Resolution) -> dict[tuple[str, str], Mark]:
    """Policy and node → what must be in that node's kernel, for the nodes of its pods and its gateways.

    The marks are sums of hashes of rows: they are compared within this process only.
    """
    shared = _shared(resolution)
    own: dict[tuple[str, str], int] = {}
    for name, found in resolution.chosen.items():
        for gateway in found:
            if gateway.egress:
                own[name, gateway.node] = hash(tuple(sorted(a.ip for a in gateway.egress.values())))
    for subject, row in resolution.matched.endpoints.items():
        parsed = subjects.parse(subject)
        node = parsed.node if parsed else ""
        for policy in resolution.matched.sets[row.set]:
            key = (policy.name, node)
            own[key] = own.get(key, 0) + hash((subject, resolution.wanted[subject]))
    return {key: (shared[key[0]], mark) for key, mark in own.items()}


def _shared(resolution: resolve.Resolution) -> dict[str, int]:
    """Policy → mark of its group and of the sets that it is in."""
    names_of = {id_: [policy.name for policy in each] for id_, each in resolution.matched.sets.items()}
    found = {
        name: hash(resolution.wanted[subjects.group(policy.uid)])
        for name, policy in resolution.versions.in_force.items()
    }
    for subject, payload in resolution.wanted.items():
        name = subjects.parse(subject)
        if name is not None and name.kind == "plan.set":
            for policy in names_of[name.ids[0]]:
                found[policy] += hash((subject, payload))
    return found
