"""A node's numbers, as metrics: of the programmer itself, and of the traffic that its kernel counted.

Each has the label `node`, so that nobody needs to know which pod runs where. Traffic is as of the last Stats,
which a node tells each 5 seconds: asking doesn't disturb the kernel's thread.
"""

from collections.abc import Iterator, Mapping

from ebbgate_bus.contracts import reports
from ebbgate_bus.runtime import metrics
from ebbgate_programmer.io import tally

CATALOGUE = metrics.Catalogue("ebbgate_programmer")
READY = CATALOGUE.gauge("ready", "1 if a plan is in the kernel", "node")
REVISION = CATALOGUE.gauge("revision", "Revision of the scope in the kernel: all, node", "node", "scope")
ENTRIES = CATALOGUE.gauge(
    "entries", "What the kernel holds: endpoints, routes, paths, peers, slots", "node", "kind"
)
PROBLEMS = CATALOGUE.gauge("problems", "What the node can't do as wished, now; the log names it", "node")
LAST_PASS = CATALOGUE.gauge("last_pass_timestamp_seconds", "When the kernel was last looked at", "node")
PASSES = CATALOGUE.counter(
    "passes", "Passes over the kernel: unchanged, changed, repaired (drift), lacking", "node", "result"
)
PASS = CATALOGUE.histogram("pass_seconds", "Time of a pass", "node")
STAGES = CATALOGUE.counter(
    "stage_seconds",
    "Time by stage: lower, read, diff, bpf, nft, netlink, sysctl, conntrack, read back",
    "node",
    "stage",
)
CHANGES = CATALOGUE.counter("changes", "Changes made to the kernel", "node", "change")
DRIFTS = CATALOGUE.counter(
    "drift_repairs", "How often something of ours was changed by others, and put back", "node"
)
LAG = CATALOGUE.histogram(
    "lag_seconds", "From seeing an event to the plan that follows from it in the kernel", "node"
)
DISAGREEMENTS = CATALOGUE.counter(
    "plan_disagreements",
    "How often rows disagreed with their Commit for so long that they were read anew",
    "node",
)
POLICY_PACKETS = CATALOGUE.counter(
    "policy_packets",
    "Packets of the policy's pods: into the tunnel (steered), out of this node (local)",
    "node",
    "policy",
    "way",
)
POLICY_BYTES = CATALOGUE.counter("policy_bytes", "Their bytes", "node", "policy", "way")
POLICY_CONNECTIONS = CATALOGUE.counter(
    "policy_connections", "Connections of the policy's pods that began and were steered", "node", "policy"
)
POLICY_DROPS = CATALOGUE.counter(
    "policy_drops", "Packets of the policy's pods that were dropped", "node", "policy", "reason"
)
EGRESS_PACKETS = CATALOGUE.counter(
    "egress_packets", "Packets that arrived by the tunnel for an egress IP of this node", "node", "egress_ip"
)
EGRESS_BYTES = CATALOGUE.counter("egress_bytes", "Their bytes", "node", "egress_ip")
DROPS = CATALOGUE.counter("drops", "Packets that the node dropped, of whichever policy", "node", "reason")


def collect(counts: tally.Tally) -> Iterator[metrics.Measured]:
    of = _Of(counts.node)
    yield of.one(READY, not counts.unready)
    if applied := counts.applied:
        yield of.by(REVISION, {"all": applied.all_revision, "node": applied.node_revision})
        yield of.by(ENTRIES, applied.counts)
    yield of.one(PROBLEMS, counts.problems)
    yield of.one(LAST_PASS, counts.last_pass)
    yield of.by(PASSES, counts.passes)
    yield of.one(PASS, counts.durations)
    yield of.by(STAGES, counts.stages)
    yield of.by(CHANGES, counts.changes)
    yield of.one(DRIFTS, counts.drifts)
    yield of.one(LAG, counts.lags)
    yield of.one(DISAGREEMENTS, counts.disagreements)
    if counts.stats:
        yield from _traffic(counts.node, counts.stats)


class _Of:
    """Measurements of one node."""

    def __init__(self, node: str) -> None:
        self._node = node

    def one(self, family: metrics.Family, value: metrics.Value) -> metrics.Measured:
        return metrics.Measured(family, {(self._node,): value})

    def by(self, family: metrics.Family, values: Mapping[str, float]) -> metrics.Measured:
        return metrics.Measured(family, {(self._node, name): value for name, value in values.items()})


def _traffic(node: str, stats: reports.Stats) -> Iterator[metrics.Measured]:
    policies = stats.policies.items()
    ways = {
        (node, name, way): traffic
        for name, each in policies
        for way, traffic in (("steered", each.steered), ("local", each.local))
    }
    yield metrics.Measured(POLICY_PACKETS, {key: float(traffic.packets) for key, traffic in ways.items()})
    yield metrics.Measured(POLICY_BYTES, {key: float(traffic.bytes) for key, traffic in ways.items()})
    of = _Of(node)
    yield of.by(POLICY_CONNECTIONS, {name: each.connections for name, each in policies})
    drops = {(node, name, why): float(n) for name, each in policies for why, n in each.drops.items()}
    yield metrics.Measured(POLICY_DROPS, drops)
    slots = stats.slots.values()
    yield of.by(EGRESS_PACKETS, {each.egress_ip: each.arrived.packets for each in slots})
    yield of.by(EGRESS_BYTES, {each.egress_ip: each.arrived.bytes for each in slots})
    yield of.by(DROPS, stats.drops)
