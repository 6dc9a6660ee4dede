"""When may something go? Before the watcher has listed everything: nothing. Egress rows: when unused.

Leg: between Rows and changes. An egress row is the gateway's leave to send with that address, and connections
and sources may still use it after the policy has gone: sources first on remove. `Sources` keeps count of who
is behind and who has no peer row, so that an event needn't ask every node.
"""

from collections.abc import Iterable, Mapping

from ebbgate_bus.contracts import subjects
from ebbgate_resolver.core import inventory
from ebbgate_resolver.core.plan import diff, held, presence

_CLUSTER_KINDS = ("node", "servicecidr")
"""Until these are listed a new endpoint could steer the cluster's own traffic."""


def before_synced(
    changes: Iterable[diff.Change], plan: held.Held, known: inventory.Inventory
) -> tuple[diff.Change, ...]:
    """Of the changes those that only add, to scopes that have a Commit. A scope's first Commit is different:
    on a bus that lost everything nodes still hold all that they were told, and it would take away from them
    what isn't listed yet.
    """
    if subjects.ALL_SCOPE not in plan.commits:
        return ()
    endpoints_too = all(kind in known.synced for kind in _CLUSTER_KINDS)
    added = (change for change in changes if change.payload and change.subject not in plan.rows)
    begun = (change for change in added if not change.scope or change.scope in plan.commits)
    return tuple(change for change in begun if endpoints_too or not _is_endpoint(change.subject))


def _is_endpoint(subject: str) -> bool:
    name = subjects.parse(subject)
    return name is not None and name.kind == "plan.endpoint"


def still_named(retained: Mapping[str, bytes], plan: held.Held) -> dict[str, bytes]:
    """Of the egress rows that no policy wants those whose slot a stored group still names."""
    return {
        subject: payload for subject, payload in retained.items() if plan.is_in_use(held.place_of(subject))
    }


class Sources:
    """Nodes with endpoints, and what they have applied. `touch` what changed before asking."""

    def __init__(self, known: inventory.Inventory, presence_: presence.Presence) -> None:
        self._known = known
        self._presence = presence_
        self._touched: set[str] = set()
        self._behind: set[str] = set()
        self._revision: int | None = None
        self._peerless: set[str] = set()

    def forget(self) -> None:
        """PLAN was read anew: every node has to be looked at again."""
        self._revision = None
        self._behind.clear()
        self._peerless.clear()

    def touch(self, nodes: Iterable[str]) -> None:
        """Their report, Node or endpoints may have changed."""
        self._touched.update(nodes)

    def touch_peers(self, nodes: Iterable[str], plan: held.Held) -> None:
        """Their Node, or their peer row in PLAN, may have changed."""
        for node in nodes:
            is_peerless = node in self._known.nodes and subjects.peer(node) not in plan.rows
            (self._peerless.add if is_peerless else self._peerless.discard)(node)
        if not self._peerless:
            self._peerless = set()  # one that was large stays slow to walk through

    def refused_peers(self, plan: held.Held) -> set[str]:
        """Nodes that were left behind when an egress row went (`left_behind`), until they have caught up.

        PLAN itself remembers them: their peer row is absent. A node that never reported is new, not left
        behind.
        """
        commit = plan.commits.get(subjects.ALL_SCOPE)
        reports = {node: self._known.report(node) for node in self._peerless}
        return {
            node
            for node, report in reports.items()
            if commit and report and report.all_revision < commit.revision
        }

    def is_allowed(self, plan: held.Held, now_s: float) -> bool:
        """Have all nodes with endpoints that count applied `all` as it is stored?"""
        commit = plan.commits.get(subjects.ALL_SCOPE)
        if commit is None:
            return False
        if self._revision != commit.revision:
            self._touched |= plan.endpoints.keys() | self._behind
            self._revision = commit.revision
        for node in self._touched:
            report = self._known.report(node)
            is_behind = report is None or report.all_revision < commit.revision
            is_source = node in plan.endpoints
            (self._behind.add if is_source and is_behind else self._behind.discard)(node)
        self._touched.clear()
        # Who never reported and never beat counts from the first time that it is asked for.
        return not self._presence.counting(self._behind, now_s)

    def left_behind(self, plan: held.Held, now_s: float) -> set[str]:
        """Nodes that may still send to a slot that is freed without their consent: gateways must refuse
        them.
        """
        counting = self._presence.counting(plan.endpoints, now_s)
        return {node for node in plan.endpoints.keys() - counting if self._known.report(node) is not None}
