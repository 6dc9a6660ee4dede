"""The mirror: what is published for which events, in which order, and what never is."""

import itertools
import random
from typing import Any

import pytest

from ebbgate_bus.contracts import codec, envelope, facts, streams, subjects
from ebbgate_bus.contracts.envelope import Outgoing, Stored
from ebbgate_watcher.core import complaints, inputs, mirror, objects, orphans

EMPTY = inputs.Published(())


class Bus:
    """FACT and STATUS, as they'd be after what a mirror said was carried out."""

    def __init__(self) -> None:
        self.stored: dict[str, Outgoing] = {}
        self.written: list[str] = []

    def carry_out(self, outputs: list[inputs.Output]) -> None:
        for output in outputs:
            if isinstance(output, inputs.Publish | inputs.Discard):
                for message in output.messages:
                    known = self.stored.get(message.subject)
                    assert known is None or known.payload != message.payload, "published twice"
                    self.stored[message.subject] = message
                    self.written.append(message.subject)

    def published(self) -> inputs.Published:
        rows = enumerate(self.stored.values(), start=1)
        return inputs.Published(tuple(Stored(m.subject, m.payload, n, m.headers) for n, m in rows))

    def live(self) -> set[str]:
        return {s for s, message in self.stored.items() if message.payload and ".fact." in s}


def pod(name: str, *, uid: str = "", label: str = "x", **over: Any) -> objects.Observed | objects.Unusable:
    metadata = {"name": name, "namespace": "d", "uid": uid or f"uid-{name}", "labels": {"l": label}}
    return objects.normalise({"kind": "Pod", "metadata": metadata | over, "status": {"podIP": "10.0.0.1"}})


def seen(name: str, **over: Any) -> inputs.Seen:
    return inputs.Seen("pod", pod(name, **over), 5)


def listed(*names: str, kind: str = "pod", missing: bool = False) -> inputs.Listed:
    return inputs.Listed(kind, tuple(pod(name) for name in names), 7, missing)


def vanished(name: str, uid: str = "") -> inputs.Vanished:
    return inputs.Vanished("pod", subject(name), uid or f"uid-{name}", 9)


def subject(name: str) -> str:
    return subjects.fact("pod", "d", name)


def started(*names: str) -> tuple[mirror.Mirror, Bus]:
    """A mirror of pods only, and its bus, with these pods listed and published."""
    reflection, bus = mirror.Mirror(["pod"]), Bus()
    bus.carry_out(reflection.step([EMPTY, listed(*names)], 0.0))
    bus.written.clear()
    return reflection, bus


def test_facts_are_published_and_acknowledged_before_their_synced() -> None:
    first, second = mirror.Mirror(["pod"]).step([EMPTY, listed("b", "a")], 0.0)
    assert isinstance(first, inputs.Publish)
    assert isinstance(second, inputs.Publish)
    assert [message.subject for message in first.messages] == [subject("a"), subject("b")]
    (synced,) = second.messages
    assert codec.decode(synced.subject, synced.payload) == facts.Synced(kind="pod", objects=2)


def test_nothing_is_published_before_both_sides_are_known() -> None:
    reflection = mirror.Mirror(["pod"])
    assert reflection.step([listed("a")], 0.0) == []
    assert reflection.step([seen("b")], 0.0) == []
    assert len(reflection.step([EMPTY], 0.0)) == 2
    other = mirror.Mirror(["pod"])
    assert other.step([EMPTY, seen("a")], 0.0) == []
    assert len(other.step([listed("a")], 0.0)) == 2


def test_a_fact_carries_when_it_was_seen_and_which_version() -> None:
    reflection, _ = started()
    (output,) = reflection.step([seen("a", resourceVersion="42")], 0.0)
    assert isinstance(output, inputs.Publish)
    assert output.messages[0].headers == {envelope.SEEN: "5", envelope.RESOURCE_VERSION: "42"}


def test_an_equal_payload_is_not_published_again() -> None:
    reflection, _ = started("a")
    assert reflection.step([seen("a", resourceVersion="43")], 0.0) == []
    assert reflection.step([listed("a")], 0.0) == []


def test_only_the_last_of_several_changes_in_a_step_is_published() -> None:
    reflection, bus = started("a")
    bus.carry_out(reflection.step([seen("a", label="y"), seen("a", label="z"), vanished("b")], 0.0))
    assert bus.written == [subject("a")]
    assert b'"z"' in bus.stored[subject("a")].payload


def test_a_gone_object_leaves_a_tombstone_with_a_time_to_live() -> None:
    reflection, bus = started("a", "b")
    bus.carry_out(reflection.step([vanished("a")], 0.0))
    assert bus.stored[subject("a")].payload == b""
    assert bus.stored[subject("a")].headers == {envelope.SEEN: "9", envelope.TTL: streams.TOMBSTONE_TTL}
    assert reflection.step([vanished("a")], 0.0) == []


def test_what_comes_is_said_before_what_goes() -> None:
    """An address that passes from a to z must have an owner at each moment."""
    reflection, bus = started("a")
    bus.carry_out(reflection.step([vanished("a"), seen("z")], 1.0))
    assert bus.written == [subject("z"), subject("a")]


def test_a_deletion_of_another_uid_is_not_this_pods() -> None:
    reflection, bus = started("a")
    assert reflection.step([vanished("a", uid="older")], 0.0) == []
    bus.carry_out(reflection.step([seen("a", uid="newer"), vanished("a")], 0.0))
    assert bus.live() == {subject("a")}


def test_what_is_missing_in_a_complete_list_is_gone() -> None:
    reflection, bus = started("a", "b")
    bus.carry_out(reflection.step([listed("b", "c")], 0.0))
    assert bus.live() == {subject("b"), subject("c")}


def test_a_restart_in_an_unchanged_world_writes_nothing() -> None:
    reflection, bus = started("a")
    bus.carry_out(reflection.step([seen("b")], 0.0))
    for order in itertools.permutations([bus.published(), listed("a", "b")]):
        assert mirror.Mirror(["pod"]).step(order, 0.0) == []


def test_what_vanished_while_the_watcher_was_away_is_gone() -> None:
    _, bus = started("a", "b")
    bus.carry_out(mirror.Mirror(["pod"]).step([bus.published(), listed("b")], 0.0))
    assert bus.written == [subject("a")]
    assert bus.live() == {subject("b")}


def test_a_bus_that_lost_its_data_is_filled_again() -> None:
    reflection, _ = started("a", "b")
    again = Bus()
    again.carry_out(reflection.step([EMPTY], 0.0))
    assert again.live() == {subject("a"), subject("b")}
    assert again.written[-1] == subjects.synced("pod")


def test_facts_of_kinds_that_are_not_mirrored_are_left_alone() -> None:
    network = subjects.fact("nodenetwork", "n")
    published = inputs.Published((Stored(network, b"{}", 1), Stored("other.subject", b"x", 2)))
    bus = Bus()
    bus.carry_out(mirror.Mirror(["pod"]).step([published, listed()], 0.0))
    assert bus.written == [subjects.synced("pod")]


def test_a_synced_that_does_not_decode_is_said_again() -> None:
    stored = inputs.Published((Stored(subjects.synced("pod"), b"{", 1),))
    bus = Bus()
    bus.carry_out(mirror.Mirror(["pod"]).step([stored, listed()], 0.0))
    assert bus.written == [subjects.synced("pod")]


def test_a_missing_kind_without_facts_is_synced_at_once() -> None:
    bus = Bus()
    reflection = mirror.Mirror(["pod"])
    bus.carry_out(reflection.step([EMPTY, listed(missing=True)], 0.0))
    synced = bus.stored[subjects.synced("pod")]
    assert codec.decode(synced.subject, synced.payload) == facts.Synced(kind="pod", missing=True)
    assert reflection.step([listed(missing=True)], 3.0) == []
    bus.carry_out(reflection.step([listed("a")], 4.0))
    assert bus.written[-2:] == [subject("a"), subjects.synced("pod")]


def test_a_missing_kind_with_facts_keeps_them_for_a_while() -> None:
    reflection, bus = started("a")
    (remark,) = reflection.step([listed(missing=True)], 100.0)
    assert isinstance(remark, inputs.Remark)
    assert reflection.wake_at() == 100.0 + mirror.MISSING_S
    assert reflection.step([listed(missing=True)], 120.0) == []
    bus.carry_out(reflection.step([], 100.0 + mirror.MISSING_S))
    assert bus.live() == set()
    assert bus.written == [subject("a"), subjects.synced("pod")]
    assert reflection.wake_at() is None


def test_a_missing_kind_that_comes_back_in_time_loses_nothing() -> None:
    reflection, bus = started("a")
    reflection.step([listed(missing=True)], 100.0)
    bus.carry_out(reflection.step([listed("a")], 110.0))
    bus.carry_out(reflection.step([], 200.0))
    assert bus.written == []


def test_a_missing_kind_waits_for_the_bus_without_waking() -> None:
    reflection = mirror.Mirror(["pod"])
    reflection.step([listed(missing=True)], 0.0)
    assert reflection.wake_at() is None


def test_an_object_that_became_unreadable_keeps_its_last_good_version() -> None:
    reflection, bus = started("a", "b")
    bad = pod("a", labels={"x": 1})
    assert isinstance(bad, objects.Unusable)
    (remark,) = reflection.step([inputs.Listed("pod", (bad, pod("b")), 7)], 0.0)
    assert isinstance(remark, inputs.Remark)
    assert remark.event == "object.refused"
    assert reflection.step([inputs.Seen("pod", bad, 8)], 0.0) == []
    fresh = mirror.Mirror(["pod"])
    bus.carry_out(fresh.step([bus.published(), inputs.Listed("pod", (bad, pod("b")), 7)], 0.0))
    assert bus.written == []
    bus.carry_out(fresh.step([vanished("a", uid="whatever")], 0.0))
    assert bus.live() == {subject("b")}


def test_an_unreadable_object_that_was_never_good_is_no_fact() -> None:
    bad, nameless = pod("a", labels={"x": 1}), objects.Unusable("", "pod", "", "it has no name")
    bus = Bus()
    bus.carry_out(mirror.Mirror(["pod"]).step([inputs.Listed("pod", (bad, nameless), 7), EMPTY], 0.0))
    assert bus.live() == set()


def test_each_trouble_is_said_once_and_so_is_its_end() -> None:
    reflection, _ = started()
    lost = [inputs.Broken("API server", "refused", kind) for kind in ("pod", "node")]
    assert len(reflection.step(lost + lost, 0.0)) == 1
    assert reflection.step([inputs.Recovered("API server", "pod")], 0.0) == []
    (remark,) = reflection.step([inputs.Recovered("API server", "node")], 0.0)
    assert remark == inputs.Remark("source.recovered", False, {"origin": "API server"})
    assert reflection.step([inputs.Recovered("API server", "node")], 0.0) == []


def test_a_new_reason_and_a_shortened_object_are_said() -> None:
    said = complaints.Complaints()
    assert said.broken(inputs.Broken("a.yaml", "one"))
    assert not said.broken(inputs.Broken("a.yaml", "one"))
    assert said.broken(inputs.Broken("a.yaml", "two"))
    manifest = {"kind": "Pod", "metadata": {"name": "a"}, "status": {"podIP": "nonsense"}}
    shortened = objects.normalise(manifest)
    assert said.about(shortened)
    assert not said.about(shortened)
    assert not said.about(objects.normalise(manifest | {"status": {}}))
    assert said.about(shortened)


def test_what_was_said_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complaints, "LIMIT", 2)
    said = complaints.Complaints()
    assert all(said.broken(inputs.Broken(name, "x")) for name in ("a", "b", "c", "a"))


def test_a_deletion_of_what_was_never_seen_is_nothing() -> None:
    reflection, _ = started()
    assert reflection.step([vanished("a")], 0.0) == []


def test_in_any_order_and_doubled_the_end_is_the_same() -> None:
    story = [EMPTY, listed("a", "b"), seen("c"), vanished("a"), seen("b", label="z"), listed("b", "c", "d")]
    tail = [listed("c", "d"), seen("e")]
    for seed in range(20):
        chance = random.Random(seed)
        inputs_ = [each for each in chance.sample(story, len(story)) for _ in range(chance.choice((1, 2)))]
        reflection, bus = mirror.Mirror(["pod"]), Bus()
        for each in inputs_ + tail:
            said = bus.published() if each is EMPTY else each
            bus.carry_out(reflection.step([said] if chance.random() < 0.9 else [said, said], 0.0))
        assert bus.live() == {subject("c"), subject("d"), subject("e")}, seed


def node(name: str) -> inputs.Seen:
    return inputs.Seen("node", objects.normalise({"kind": "Node", "metadata": {"name": name}}), 1)


def reported(*names: str, replaced: bool = True, payload: bytes = b"{}") -> inputs.Reported:
    rows = tuple(Stored(subjects.status(name), payload, 1) for name in names)
    return inputs.Reported("status", replaced, rows)


def of_nodes(*names: str) -> tuple[mirror.Mirror, Bus]:
    reflection, bus = mirror.Mirror(["node"]), Bus()
    found = tuple(node(name).object for name in names)
    bus.carry_out(reflection.step([EMPTY, inputs.Listed("node", found, 1)], 0.0))
    bus.written.clear()
    return reflection, bus


def test_reports_of_a_node_that_is_gone_are_removed_after_a_while() -> None:
    reflection, bus = of_nodes("n1")
    assert reflection.step([reported("n1", "n2.example")], 10.0) == []
    assert reflection.wake_at() == 10.0 + orphans.GRACE_S
    assert reflection.step([], 10.0 + orphans.GRACE_S - 1) == []
    bus.carry_out(reflection.step([], 10.0 + orphans.GRACE_S))
    assert bus.written == [subjects.status("n2.example")]
    assert bus.stored[subjects.status("n2.example")].headers == {envelope.TTL: streams.TOMBSTONE_TTL}
    assert reflection.wake_at() is None


def test_a_node_that_comes_in_time_keeps_its_reports() -> None:
    reflection, bus = of_nodes()
    reflection.step([reported("n1")], 0.0)
    bus.carry_out(reflection.step([node("n1")], 30.0))
    bus.carry_out(reflection.step([], 1000.0))
    assert bus.written == [subjects.fact("node", "n1")]


def test_reports_are_left_alone_until_nodes_are_known() -> None:
    reflection = mirror.Mirror(["node"])
    assert reflection.step([EMPTY, reported("n1")], 0.0) == []
    assert reflection.step([], 1000.0) == []


def test_a_report_that_was_taken_back_is_no_orphan() -> None:
    reflection, _ = of_nodes()
    reflection.step([reported("n1", "n2")], 0.0)
    reflection.step([reported("n1", replaced=False, payload=b"")], 1.0)
    reflection.step([reported()], 2.0)
    assert reflection.step([], 1000.0) == []


def test_node_networks_from_the_source_are_nobodys_orphans() -> None:
    reflection = mirror.Mirror(["node", "nodenetwork"])
    network = Stored(subjects.fact("nodenetwork", "n1"), b"{}", 1)
    reflection.step([EMPTY, inputs.Listed("node", (), 1)], 0.0)
    assert reflection.step([inputs.Reported("fact.nodenetwork", True, (network,))], 0.0) == []
    assert reflection.wake_at() is None


def test_what_exceeds_a_batch_is_said_step_by_step_and_synced_last() -> None:
    reflection, bus = mirror.Mirror(["pod"]), Bus()
    names = [f"p{number:04}" for number in range(2 * mirror.BATCH + 1)]
    steps = [reflection.step([EMPTY, listed(*names)], 0.0)]
    while reflection.wake_at() == 0.0:
        assert not reflection.ready
        steps.append(reflection.step([], 0.0))
    assert [len(output.messages) for (output, *_) in steps if isinstance(output, inputs.Publish)] == [
        mirror.BATCH,
        mirror.BATCH,
        1,
    ]
    for step in steps:
        bus.carry_out(step)
    assert bus.written == [*map(subject, names), subjects.synced("pod")]
    assert reflection.ready


def test_what_goes_waits_for_all_that_comes_even_over_steps() -> None:
    many = [f"p{number:04}" for number in range(mirror.BATCH - 1)]
    reflection, bus = started("a", *many)
    comes = [seen(name, label="new") for name in [*many, "y", "z"]]
    bus.carry_out(reflection.step([vanished("a"), *comes], 1.0))
    assert subject("a") not in bus.written
    bus.carry_out(reflection.step([], 1.0))
    assert bus.written[-2:] == [subject("z"), subject("a")]


def test_what_changed_back_before_it_was_said_is_not_said() -> None:
    many = [f"p{number:04}" for number in range(mirror.BATCH - 1)]
    reflection, bus = started("z", *many)
    bus.carry_out(reflection.step([seen(name, label="new") for name in [*many, "y", "z"]], 1.0))
    bus.carry_out(reflection.step([seen("z")], 1.0))
    assert subject("z") not in bus.written
    assert reflection.wake_at() is None


def test_who_was_overtaken_says_nothing_until_it_knows_what_is_stored() -> None:
    reflection, bus = started("a", "b")
    assert reflection.step([inputs.Overtaken(), seen("c"), vanished("a")], 1.0) == []
    assert (reflection.ready, reflection.warm, reflection.wake_at()) == (False, True, None)
    assert reflection.counts == {"pod": 2}
    bus.carry_out(reflection.step([bus.published()], 2.0))
    assert bus.live() == {subject("b"), subject("c")}
    assert reflection.ready


def test_who_stands_by_with_a_kind_missing_is_warm_and_removes_nothing_too_soon() -> None:
    _, bus = started("a")
    reflection = mirror.Mirror(["pod"])
    assert not reflection.warm
    reflection.step([listed(missing=True)], 100.0)
    assert reflection.warm
    assert reflection.step([bus.published()], 110.0) == []
    assert reflection.wake_at() == 100.0 + mirror.MISSING_S


def test_an_unreadable_object_keeps_its_last_good_version_whichever_is_known_first() -> None:
    _, bus = started("a", "b")
    bad = pod("a", labels={"x": 1})
    for order in itertools.permutations([bus.published(), inputs.Listed("pod", (bad, pod("b")), 7)]):
        (remark,) = mirror.Mirror(["pod"]).step(order, 0.0)
        assert isinstance(remark, inputs.Remark)
    gone = mirror.Mirror(["pod"])
    bus.carry_out(gone.step([inputs.Listed("pod", (bad, pod("b")), 7), vanished("a"), bus.published()], 0.0))
    assert bus.live() == {subject("b")}
