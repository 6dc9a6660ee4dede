"""Held: a policy as the API has it, and what was written onto it. Half of the comparison that decides whether
its status is to be written; the other half is the verdict.
"""

import msgspec

from ebbgate_bus.contracts import facts, reports
from ebbgate_watcher.core import objects, statuses


class Policy(msgspec.Struct):
    """`said`: the status about which Events were said; None: none by this watcher. `given`: what was wanted
    when it was last written, and what the API made of it.
    """

    name: str
    uid: str
    generation: int
    version: str
    held: statuses.Status
    said: statuses.Status | None = None
    given: tuple[statuses.Status, statuses.Status] | None = None
    written_at: float = float("-inf")
    stale_until: float = 0.0

    def update(self, seen: "Policy") -> None:
        """As it was `seen`; nothing, if that is older than what is known: an answer overtakes a watch."""
        if not _is_older(seen.version, self.version):
            self.generation, self.version, self.held = seen.generation, seen.version, seen.held
            self.stale_until = 0.0

    def is_judged_by(self, verdict: reports.Verdict) -> bool:
        """
        | verdict | then |
        |---|---|
        | of another uid | it is about another policy of that name |
        | of an older generation | the one of this generation will come |
        | of a newer generation | this generation will be seen |
        """
        return (verdict.uid, verdict.generation) == (self.uid, self.generation)

    def was_given(self, wanted: statuses.Status) -> bool:
        """The same was written, and the API holds what it made of it."""
        if self.given is None:
            return False
        given, made = self.given
        return statuses.timeless(wanted) == statuses.timeless(given) and made == self.held

    def body(self, status: statuses.Status) -> statuses.Status:
        """To be applied: refused by the API unless this very version of this very object is there."""
        return {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumEgressGatewayPolicy",
            "metadata": {"name": self.name, "uid": self.uid, "resourceVersion": self.version},
            "status": status,
        }


def read(seen: objects.Observed) -> Policy:
    """`seen`: a policy."""
    fact = seen.fact
    assert isinstance(fact, facts.Policy)
    held = statuses.parse(seen.status)
    return Policy(fact.name, fact.uid, fact.generation, seen.resource_version, held)


def _is_older(version: str, than: str) -> bool:
    """resourceVersions of one object can be compared (KEP-5504; before it they could, unsaid)."""
    both = version.isdecimal() and than.isdecimal()
    return both and int(version) < int(than)
