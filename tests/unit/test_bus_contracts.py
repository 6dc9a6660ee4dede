"""The contracts of the bus: golden files, subjects, codec, digests.

A golden file changes only together with a decision that its readers can live with: see CONTRIBUTING.md.
"""

import pathlib

import pytest

from ebbgate_bus.contracts import catalog, codec, digests, envelope, facts, rows, streams, subjects

GOLDEN = pathlib.Path(__file__).parent / "golden"

EXAMPLES = {entry.subject: entry.example for entry in catalog.ENTRIES}


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
    kept = [subject for subject in EXAMPLES if streams.of(subject) in streams.STATE]
    assert [s for s in EXAMPLES if s not in kept] == [
        subjects.dropped("node-a"),
        subjects.beat("resolver", "host-a"),
    ]
    assert streams.of(subjects.live(subjects.WRITER)) is streams.JOURNAL
    assert streams.of(subjects.live(subjects.stats("node-a"))) is None
    assert streams.api_config(streams.PLAN, replicas=3)["num_replicas"] == 3
    assert "republish" not in streams.api_config(streams.JOURNAL)


def test_the_trace_of_a_message_is_read_from_its_header() -> None:
    header = envelope.traceparent("a" * 32, "b" * 16)
    assert envelope.trace_id({envelope.TRACEPARENT: header}) == "a" * 32
    assert envelope.trace_id({}) == ""
    assert envelope.trace_id({envelope.TRACEPARENT: "nonsense"}) == ""
