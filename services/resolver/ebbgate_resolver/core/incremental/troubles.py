"""Troubles: which nodes say that they couldn't do something, and for which policy.

Leg: Applied ─▶ Verdict. Hardly any node ever does, so that a verdict shouldn't have to ask all of them.
"""

from collections.abc import Iterable

from ebbgate_resolver.core import inventory


class Troubles:
    """`nodes`: policy → nodes whose report names a problem with it."""

    def __init__(self, known: inventory.Inventory) -> None:
        self.nodes: dict[str, set[str]] = {}
        self._known = known
        self._policies: dict[str, set[str]] = {}

    def put_reports(self, nodes: Iterable[str]) -> set[str]:
        """These nodes' reports may be others now; the policies that they have, or had, problems with."""
        touched: set[str] = set()
        for node in nodes:
            report = self._known.report(node)
            # One that is about no policy, as that this node forwards nothing, is in no verdict.
            now = {problem.policy for problem in report.problems if problem.policy} if report else set()
            before = self._policies.pop(node, set())
            if now:
                self._policies[node] = now
            for policy in before - now:
                self.nodes[policy].discard(node)
            for policy in now - before:
                self.nodes.setdefault(policy, set()).add(node)
            touched |= before | now
        return touched
