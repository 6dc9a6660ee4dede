"""The catalog: every kind of message, who says it, what it says, with an example. What `docs/bus.md`, the
schemas beside it and the golden files are made from, so that none of them can be out of date.
"""

import msgspec

from ebbgate_bus.contracts import facts, reports, rows, subjects
from ebbgate_bus.contracts.message import Message


class Entry(msgspec.Struct, frozen=True):
    """`pattern`: the subject for people, without the root; alternatives after a comma. `subject`: of the
    example.
    """

    kind: str
    pattern: str
    publisher: str
    what: str
    subject: str
    example: Message


_PATHS = rows.Paths(paths=(rows.Path("node2", "10.168.60.12", 700),), buckets=(0,) * rows.BUCKETS)

ENTRIES = (
    Entry(
        "fact.pod",
        "fact.pod.<namespace>.<name>",
        "watcher",
        "a pod: where it is, its addresses, its labels",
        subjects.fact("pod", "default", "mediabot"),
        facts.Pod(
            namespace="default",
            name="mediabot",
            uid="0001",
            node="node1",
            ips=("10.244.1.10",),
            labels={"org": "empire", "class": "mediabot"},
            phase="Running",
            created="2026-01-01T00:00:00Z",
        ),
    ),
    Entry(
        "fact.namespace",
        "fact.namespace.<name>",
        "watcher",
        "a namespace and its labels",
        subjects.fact("namespace", "default"),
        facts.Namespace(name="default", labels={"team": "a"}),
    ),
    Entry(
        "fact.node",
        "fact.node.<name>",
        "watcher",
        "a node: labels, addresses, pod CIDRs",
        subjects.fact("node", "node1"),
        facts.Node(
            name="node1",
            labels={"zone": "a"},
            internal_ips=("10.168.60.11",),
            addresses=("10.168.60.11",),
            pod_cidrs=("10.244.1.0/24",),
        ),
    ),
    Entry(
        "fact.policy",
        "fact.policy.<name>",
        "watcher",
        "a policy as it was written, not judged yet",
        subjects.fact("policy", "egress-sample"),
        facts.Policy(
            name="egress-sample",
            uid="0002",
            generation=3,
            created="2026-01-01T00:00:00Z",
            spec=msgspec.Raw(b'{"destinationCIDRs":["0.0.0.0/0"]}'),
        ),
    ),
    Entry(
        "fact.servicecidr",
        "fact.servicecidr.<name>",
        "watcher",
        "addresses of services, which are never steered",
        subjects.fact("servicecidr", "kubernetes"),
        facts.ServiceCidr(name="kubernetes", cidrs=("10.96.0.0/12",)),
    ),
    Entry(
        "fact.nodenetwork",
        "fact.nodenetwork.<node>",
        "programmer",
        "what a node's kernel has: interfaces, addresses, default routes",
        subjects.fact("nodenetwork", "node1"),
        facts.NodeNetwork(
            node="node1",
            interfaces=(
                facts.Interface(
                    name="eth0", index=2, addresses=("10.168.60.11/24",), default_route=("ipv4",)
                ),
            ),
        ),
    ),
    Entry(
        "synced",
        "synced.<kind>",
        "watcher",
        "all objects of a kind have been published; follows the acks of those facts",
        subjects.synced("pod"),
        facts.Synced(kind="pod", objects=2),
    ),
    Entry(
        "plan.set",
        "plan.all.set.<id>.<chunk>",
        "resolver",
        "routes of a combination of policies",
        subjects.routes("00ff", 0),
        rows.Routes(
            policies=("egress-sample",),
            routes=(rows.Route("0.0.0.0/0", rows.Action.STEER, "0002", "egress-sample"),),
        ),
    ),
    Entry(
        "plan.group",
        "plan.all.group.<policy uid>",
        "resolver",
        "the gateways that share a policy's traffic",
        subjects.group("0002"),
        rows.Group(policy="egress-sample", ipv4=_PATHS, awaiting=("node2",)),
    ),
    Entry(
        "plan.peer",
        "plan.all.peer.<node>",
        "resolver",
        "from where a node's tunnel packets may come",
        subjects.peer("node1"),
        rows.Peer(addresses=("10.168.60.11",)),
    ),
    Entry(
        "plan.cluster",
        "plan.all.cluster.<cidr>",
        "resolver",
        "a destination that is never steered",
        subjects.cluster("10.244.1.0/24"),
        rows.Cluster(cidr="10.244.1.0/24", source="podCIDR of node1"),
    ),
    Entry(
        "plan.endpoint",
        "plan.node.<node>.endpoint.<pod IP>",
        "resolver",
        "a pod that policies choose, for its own node",
        subjects.endpoint("node1", "10.244.1.10"),
        rows.Endpoint(ip="10.244.1.10", set="00ff", bucket=7, pod="default/mediabot"),
    ),
    Entry(
        "plan.egress",
        "plan.node.<node>.egress.<slot>",
        "resolver",
        "an egress IP, for the gateway that has it",
        subjects.egress("node2", 700),
        rows.Egress(egress_ip="10.168.60.100", interface="eth0", policies=("egress-sample",)),
    ),
    Entry(
        "plan.commit",
        "plan.all.commit, plan.node.<node>.commit",
        "resolver",
        "the end of a revision of a scope",
        subjects.commit(subjects.node_scope("node1")),
        rows.Commit(epoch=2, revision=9, count=1, digest="00000000000000ff", all_revision=8),
    ),
    Entry(
        "plan.policy",
        "plan.policy.<name>",
        "resolver",
        "the version of a policy in force",
        subjects.policy_in_force("egress-sample"),
        rows.PolicyInForce(uid="0002", generation=2, created="2026-01-01T00:00:00Z", spec=msgspec.Raw(b"{}")),
    ),
    Entry(
        "plan.writer",
        "plan.writer",
        "resolver",
        "who writes PLAN; the last of every batch, and its fence",
        subjects.WRITER,
        rows.Writer(epoch=2, revision=9),
    ),
    Entry(
        "fact.writer",
        "fact.writer",
        "watcher",
        "who writes the watcher's facts; the last of every batch, and the fence of all",
        subjects.FACT_WRITER,
        rows.Writer(epoch=2, revision=9),
    ),
    Entry(
        "status",
        "status.<node>",
        "programmer",
        "what a node's kernel holds, as read back from it",
        subjects.status("node2"),
        reports.Applied(
            node="node2",
            epoch=2,
            all_revision=8,
            node_revision=9,
            digest="00000000000000ff",
            slots={"700": "10.168.60.100"},
            counts={"slots": 1},
            took_ms=3.5,
            problems=(reports.Problem(reason="map full", policy="egress-sample"),),
        ),
    ),
    Entry(
        "verdict",
        "verdict.<policy>",
        "resolver",
        "what became of a policy",
        subjects.verdict("egress-sample"),
        reports.Verdict(
            policy="egress-sample",
            uid="0002",
            generation=3,
            in_force=2,
            conditions=(
                reports.Condition(
                    type="Accepted",
                    status=reports.Truth.FALSE,
                    reason="Rejected",
                    message="spec.egressIP: bad",
                ),
            ),
            gateways=(
                reports.ServingGateway(
                    node="node2", gateway_ip="10.168.60.12", egress_ips=("10.168.60.100",), pods=1
                ),
            ),
            pods=1,
            nodes_wanted=("node1", "node2"),
            nodes_programmed=("node1",),
        ),
    ),
    Entry(
        "stats",
        "stats.<node>",
        "programmer",
        "traffic and drops that a node counted",
        subjects.stats("node-a"),
        reports.Stats(
            node="node-a",
            policies={
                "egress-sample": reports.PolicyTraffic(
                    steered=reports.Traffic(12, 3456), connections=2, drops={"no_egress_ip": 3}
                )
            },
            slots={
                "77": reports.SlotTraffic(
                    egress_ip="192.0.2.100", policies=("egress-sample",), arrived=reports.Traffic(7, 890)
                )
            },
            drops={"no_egress_ip": 3, "ports_exhausted": 1},
        ),
    ),
    Entry(
        "drop",
        "drop.<node>",
        "programmer",
        "one packet that a node dropped",
        subjects.dropped("node-a"),
        reports.Dropped(
            node="node-a",
            reason="no_egress_ip",
            source="10.0.0.5",
            destination="198.51.100.7",
            protocol=6,
            source_port=40000,
            destination_port=443,
            pod="default/pod-1",
            policy="egress-sample",
        ),
    ),
    Entry(
        "beat",
        "beat.<service>.<name>",
        "each service",
        "a process lives",
        subjects.beat("resolver", "host-a"),
        reports.Beat(service="resolver", name="host-a", version="0.1.0", behind_s=0.25),
    ),
)
