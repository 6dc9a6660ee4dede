"""When may something go? Before the watcher has listed everything: nothing. Egress rows: when unused.

Leg: between Rows and changes. An egress row is the gateway's leave to send with that address, and connections
and sources may still use it after the policy has gone: sources first on remove.
"""

from collections.abc import Iterable, Mapping

from ebbgate_bus.contracts import subjects
from ebbgate_resolver.core import diff, held, inventory

_CLUSTER_KINDS = ("node", "servicecidr")
"""Until these are listed a new endpoint could steer the cluster's own traffic."""


def before_synced(
    changes: Iterable[diff.Change], plan: Mapping[str, bytes], known: inventory.Inventory
) -> tuple[diff.Change, ...]:
    """Of the changes those that only add."""
    endpoints_too = all(kind in known.synced for kind in _CLUSTER_KINDS)
    added = (change for change in changes if change.payload and change.subject not in plan)
    return tuple(change for change in added if endpoints_too or not _is_endpoint(change.subject))


def _is_endpoint(subject: str) -> bool:
    name = subjects.parse(subject)
    return name is not None and name.kind == "plan.endpoint"


def is_allowed(plan: held.Held, known: inventory.Inventory, sources: Iterable[str]) -> bool:
    """Have all `sources` (nodes with endpoints that count) applied `all` as it is stored?"""
    commit = plan.commits.get(subjects.ALL_SCOPE)
    reports = [known.report(node) for node in sources]
    return commit is not None and all(
        report is not None and report.all_revision >= commit.revision for report in reports
    )


def refused_peers(plan: held.Held, known: inventory.Inventory) -> set[str]:
    """Nodes that were left behind when an egress row went (`left_behind`), until they have caught up.

    PLAN itself remembers them: their peer row is absent. A node that never reported is new, not left behind.
    """
    commit = plan.commits.get(subjects.ALL_SCOPE)
    reports = {node: known.report(node) for node in known.nodes if subjects.peer(node) not in plan.rows}
    return {
        node
        for node, report in reports.items()
        if commit and report and report.all_revision < commit.revision
    }


def left_behind(known: inventory.Inventory, sources: Iterable[str], counting: Iterable[str]) -> set[str]:
    """Nodes that may still send to a slot that is freed without their consent: gateways must refuse them."""
    return {node for node in set(sources) - set(counting) if known.report(node) is not None}


def without_peers(wanted: Mapping[str, bytes], nodes: Iterable[str]) -> dict[str, bytes]:
    refused = set(map(subjects.peer, nodes))
    return {subject: payload for subject, payload in wanted.items() if subject not in refused}


def still_named(retained: Mapping[str, bytes], plan: held.Held) -> dict[str, bytes]:
    """Of the egress rows that no policy wants those whose slot a stored group still names."""
    named = {subjects.egress(node, slot) for node, slot in plan.places_in_use()}
    return {subject: payload for subject, payload in retained.items() if subject in named}
