"""The contracts of the bus: golden files, subjects, codec, digests.

A golden file changes only together with a decision that its readers can live with: see CONTRIBUTING.md.
"""

import pathlib

import msgspec
import pytest

from ebbgate_bus.contracts import codec, digests, envelope, facts, reports, rows, streams, subjects
from ebbgate_bus.contracts.message import Message

GOLDEN = pathlib.Path(__file__).parent / "golden"

PATHS = rows.Paths(paths=(rows.Path("node2", "10.168.60.12", 700),), buckets=(0,) * rows.BUCKETS)
EXAMPLES: dict[str, Message] = {
    subjects.fact("pod", "default", "mediabot"): facts.Pod(
        namespace="default",
        name="mediabot",
        uid="0001",
        node="node1",
        ips=("10.244.1.10",),
        labels={"org": "empire", "class": "mediabot"},
        phase="Running",
        created="2026-01-01T00:00:00Z",
    ),
    subjects.fact("namespace", "default"): facts.Namespace(name="default", labels={"team": "a"}),
    subjects.fact("node", "node1"): facts.Node(
        name="node1",
        labels={"zone": "a"},
        internal_ips=("10.168.60.11",),
        addresses=("10.168.60.11",),
        pod_cidrs=("10.244.1.0/24",),
    ),
    subjects.fact("policy", "egress-sample"): facts.Policy(
        name="egress-sample",
        uid="0002",
        generation=3,
        created="2026-01-01T00:00:00Z",
        spec=msgspec.Raw(b'{"destinationCIDRs":["0.0.0.0/0"]}'),
    ),
    subjects.fact("servicecidr", "kubernetes"): facts.ServiceCidr(name="kubernetes", cidrs=("10.96.0.0/12",)),
    subjects.fact("nodenetwork", "node1"): facts.NodeNetwork(
        node="node1",
        interfaces=(
            facts.Interface(name="eth0", index=2, addresses=("10.168.60.11/24",), default_route=("ipv4",)),
        ),
    ),
    subjects.synced("pod"): facts.Synced(kind="pod", objects=2),
    subjects.routes("00ff", 0): rows.Routes(
        policies=("egress-sample",),
        routes=(rows.Route("0.0.0.0/0", rows.Action.STEER, "0002", "egress-sample"),),
    ),
    subjects.group("0002"): rows.Group(policy="egress-sample", ipv4=PATHS, awaiting=("node2",)),
    subjects.peer("node1"): rows.Peer(addresses=("10.168.60.11",)),
    subjects.cluster("10.244.1.0/24"): rows.Cluster(cidr="10.244.1.0/24", source="podCIDR of node1"),
    subjects.endpoint("node1", "10.244.1.10"): rows.Endpoint(
        ip="10.244.1.10", set="00ff", bucket=7, pod="default/mediabot"
    ),
    subjects.egress("node2", 700): rows.Egress(
        egress_ip="10.168.60.100", interface="eth0", policies=("egress-sample",)
    ),
    subjects.commit(subjects.node_scope("node1")): rows.Commit(
        epoch=2, revision=9, count=1, digest="00000000000000ff", all_revision=8
    ),
    subjects.policy_in_force("egress-sample"): rows.PolicyInForce(
        uid="0002", generation=2, created="2026-01-01T00:00:00Z", spec=msgspec.Raw(b"{}")
    ),
    subjects.WRITER: rows.Writer(epoch=2, revision=9),
    subjects.FACT_WRITER: rows.Writer(epoch=2, revision=9),
    subjects.status("node2"): reports.Applied(
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
    subjects.verdict("egress-sample"): reports.Verdict(
        policy="egress-sample",
        uid="0002",
        generation=3,
        in_force=2,
        conditions=(
            reports.Condition(
                type="Accepted", status=reports.Truth.FALSE, reason="Rejected", message="spec.egressIP: bad"
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
    subjects.stats("node-a"): reports.Stats(
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
    subjects.dropped("node-a"): reports.Dropped(
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
    subjects.beat("resolver", "host-a"): reports.Beat(service="resolver", name="host-a"),
}


def kind_of(subject: str) -> str:
    name = subjects.parse(subject)
    assert name is not None
    return name.kind


@pytest.mark.parametrize("subject", EXAMPLES, ids=kind_of)
def test_a_message_is_what_its_golden_file_says(subject: str) -> None:
    golden = (GOLDEN / f"{kind_of(subject)}.json").read_bytes().rstrip(b"\n")
    assert codec.encode(EXAMPLES[subject]) == golden
    assert codec.decode(subject, golden) == EXAMPLES[subject]


def test_every_kind_of_message_has_an_example() -> None:
    assert {kind_of(subject) for subject in EXAMPLES} == set(codec.TYPES)


def test_a_field_of_a_later_minor_version_is_ignored() -> None:
    subject = subjects.peer("node1")
    assert codec.decode(subject, b'{"addresses":["10.0.0.1"],"colour":"blue"}') == rows.Peer(
        addresses=("10.0.0.1",)
    )


@pytest.mark.parametrize(
    ("subject", "payload", "said"),
    [
        (subjects.peer("node1"), b'{"v":2,"addresses":[]}', "major version 2"),
        (subjects.peer("node1"), b"{", "plan.all.peer.node1"),
        (subjects.peer("node1"), b'{"addresses":5}', r"\$.addresses"),
        (subjects.peer("node1"), b"\xff\xfe", "plan.all.peer.node1"),
        ("ebbgate.v2.plan.writer", b"{}", "not a subject of version 1"),
        ("ebbgate.v1.plan.all.colour.x", b"{}", "not a subject of version 1"),
    ],
)
def test_what_cannot_be_read_is_named(subject: str, payload: bytes, said: str) -> None:
    with pytest.raises(codec.Undecodable, match=said):
        codec.decode(subject, payload)


def test_an_empty_payload_means_gone() -> None:
    assert codec.decode(subjects.peer("node1"), b"") == facts.GONE
    assert codec.encode(facts.GONE) == b""


def test_equal_objects_are_equal_bytes_whatever_the_order_of_their_labels() -> None:
    one = facts.Namespace(name="a", labels={"x": "1", "y": "2"})
    two = facts.Namespace(name="a", labels={"y": "2", "x": "1"})
    assert codec.encode(one) == codec.encode(two)
    assert codec.sorted_json({"b": 1, "a": {"d": 1, "c": 2}}) == b'{"a":{"c":2,"d":1},"b":1}'


@pytest.mark.parametrize("name", ["", "a b", "a_b", "a*", ">", "ä"])
def test_what_is_no_name_is_no_subject(name: str) -> None:
    with pytest.raises(ValueError, match="subject token"):
        subjects.escape(name)


def test_names_with_dots_survive() -> None:
    subject = subjects.egress("node1.example.org", 17)
    assert subject == "ebbgate.v1.plan.node.node1_example_org.egress.17"
    assert subjects.parse(subject) == subjects.Name(
        "plan.egress", ("17",), "ebbgate.v1.plan.node.node1_example_org", "node1.example.org"
    )
    assert subjects.unescape(subjects.escape("a.b")) == "a.b"


@pytest.mark.parametrize(
    "subject",
    ["other.v1.x", "ebbgate.v1.plan", "ebbgate.v1.fact.pod", "ebbgate.v1.plan.x.y", "ebbgate.v1.colour.x"],
)
def test_a_foreign_subject_is_not_parsed(subject: str) -> None:
    assert subjects.parse(subject) is None


def test_live_subjects_lead_back_to_stored_ones() -> None:
    assert subjects.live(subjects.WRITER) == "ebbgate.v1.live.plan.writer"
    assert subjects.stored(subjects.live(subjects.WRITER)) == subjects.WRITER


def test_a_digest_follows_single_changes_and_ignores_order() -> None:
    held = {"a": b"1", "b": b"2"}
    digest = digests.of_rows(held)
    assert digest == digests.of_rows(dict(reversed(held.items())))
    digest = digests.replace(digest, "b", b"2", b"3")
    digest = digests.replace(digest, "a", b"1", b"")
    digest = digests.replace(digest, "c", b"", b"4")
    assert digests.text(digest) == digests.text(digests.of_rows({"b": b"3", "c": b"4"}))


def test_hashes_see_the_borders_between_texts() -> None:
    assert digests.short_hash("ab", "c") != digests.short_hash("a", "bc")
    assert 0 <= digests.bucket("uid", rows.BUCKETS) < rows.BUCKETS


def test_the_streams_keep_every_kind_that_is_kept() -> None:
    patterns = [pattern for stream in streams.STREAMS for pattern in stream.subjects]
    kept = [s for s in EXAMPLES if any(s.startswith(pattern.removesuffix(">")) for pattern in patterns)]
    assert [s for s in EXAMPLES if s not in kept] == [
        subjects.dropped("node-a"),
        subjects.beat("resolver", "host-a"),
    ]
    assert streams.api_config(streams.PLAN, replicas=3)["num_replicas"] == 3


def test_the_trace_of_a_message_is_read_from_its_header() -> None:
    header = envelope.traceparent("a" * 32, "b" * 16)
    assert envelope.trace_id({envelope.TRACEPARENT: header}) == "a" * 32
    assert envelope.trace_id({}) == ""
    assert envelope.trace_id({envelope.TRACEPARENT: "nonsense"}) == ""
