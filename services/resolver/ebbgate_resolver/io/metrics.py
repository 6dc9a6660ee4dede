"""The resolver's numbers, and those of policies, as metrics. Of policies tells only the one that writes PLAN:
each would be there twice.
"""

from collections.abc import Iterable, Iterator

import msgspec

from ebbgate_bus.contracts import reports, standing
from ebbgate_bus.runtime import metrics
from ebbgate_resolver.core import census
from ebbgate_resolver.io import tally

CATALOGUE = metrics.Catalogue("ebbgate_resolver")
LEADER = CATALOGUE.gauge("leader", "1 if this resolver writes the plan, 0 if it stands by")
READY = CATALOGUE.gauge("ready", "1 if it has read all there is, and writes or stands by")
REVISION = CATALOGUE.gauge("revision", "The plan's last revision")
OBJECTS = CATALOGUE.gauge("objects", "Facts known", "kind")
ROWS = CATALOGUE.gauge(
    "rows", "Rows of the plan: shared ones (all), and those of single nodes (node)", "scope"
)
NODES = CATALOGUE.gauge(
    "nodes",
    "Nodes, by whether their kernels hold the plan: programmed, behind, silent (never reported)",
    "state",
)
POLICY_READY = CATALOGUE.gauge("policy_ready", "1 if the policy works as written", "policy")
POLICY_CONDITION = CATALOGUE.gauge(
    "policy_condition",
    "1 if the condition is True, 0 if it is False or Unknown",
    "policy",
    "condition",
    "reason",
)
POLICY_PODS = CATALOGUE.gauge("policy_pods", "Pods that the policy selects", "policy")
POLICY_GATEWAYS = CATALOGUE.gauge("policy_gateways", "Gateways that serve the policy", "policy")
POLICY_WANTED = CATALOGUE.gauge("policy_nodes_wanted", "Nodes that must hold the policy's rows", "policy")
POLICY_PROGRAMMED = CATALOGUE.gauge("policy_nodes_programmed", "Nodes whose kernels hold them", "policy")
WORK = CATALOGUE.histogram("work_seconds", "Time of each step's phases: fold, resolve, publish", "phase")
LAG = CATALOGUE.histogram("lag_seconds", "From seeing an event to the plan that follows from it being stored")
FOLDED = CATALOGUE.counter("folded", "Messages taken in: facts, reports, beats", "source")
UNREADABLE = CATALOGUE.counter("unreadable", "Messages that couldn't be read, and so were left out")
REVISIONS = CATALOGUE.counter("revisions", "Batches stored, each whole")
ROWS_STORED = CATALOGUE.counter("messages_stored", "Messages in them: rows, Commits, writer")
VERDICTS = CATALOGUE.counter("verdicts", "Verdicts published")
CLAIMS = CATALOGUE.counter("claims", "How often it became the one that writes the plan")
LOSSES = CATALOGUE.counter(
    "losses", "How often it stopped being that: fenced (another writes), unanswered, refused", "reason"
)


class State(msgspec.Struct, frozen=True):
    """What the numbers are taken from, now."""

    leading: bool
    ready: bool
    census: census.Census
    verdicts: Iterable[reports.Verdict]


def collect(counts: tally.Tally, state: State | None) -> Iterator[metrics.Measured]:
    """`state`: None before the bus was reached."""
    yield metrics.one(LEADER, bool(state and state.leading))
    yield metrics.one(READY, bool(state and state.ready))
    if state:
        yield metrics.one(REVISION, state.census.revision)
        yield metrics.by(OBJECTS, state.census.objects)
        yield metrics.by(ROWS, state.census.rows)
        if state.leading:
            yield metrics.by(NODES, state.census.nodes)
            yield from _policies(list(state.verdicts))
    yield metrics.by(WORK, counts.phases)
    yield metrics.one(LAG, counts.lags)
    yield metrics.by(FOLDED, counts.folded)
    yield metrics.one(UNREADABLE, counts.unreadable)
    yield metrics.one(REVISIONS, counts.revisions)
    yield metrics.one(ROWS_STORED, counts.messages)
    yield metrics.one(VERDICTS, counts.verdicts)
    yield metrics.one(CLAIMS, counts.claims)
    yield metrics.by(LOSSES, counts.losses)


def _policies(verdicts: list[reports.Verdict]) -> Iterator[metrics.Measured]:
    yield metrics.by(POLICY_READY, {each.policy: not standing.hindrance(each) for each in verdicts})
    conditions = {
        (each.policy, condition.type, condition.reason): float(condition.status == reports.Truth.TRUE)
        for each in verdicts
        for condition in each.conditions
    }
    yield metrics.Measured(POLICY_CONDITION, conditions)
    yield metrics.by(POLICY_PODS, {each.policy: each.pods for each in verdicts})
    yield metrics.by(POLICY_GATEWAYS, {each.policy: len(each.gateways) for each in verdicts})
    yield metrics.by(POLICY_WANTED, {each.policy: len(each.nodes_wanted) for each in verdicts})
    yield metrics.by(POLICY_PROGRAMMED, {each.policy: len(each.nodes_programmed) for each in verdicts})
