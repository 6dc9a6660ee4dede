"""The course of a list and watch: what each answer of an API server leads to."""

import json
from typing import Any

import pytest

from ebbgate_watcher.core import course, inputs, objects


def pod(name: str, version: int = 1) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}}


def page(*names: str, version: int = 10, more: str = "") -> bytes:
    metadata = {"resourceVersion": str(version), "continue": more}
    return json.dumps({"metadata": metadata, "items": [pod(name) for name in names]}).encode()


def event(kind: str, value: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": value}).encode() + b"\n"


def paging(kind: str = "pod") -> course.Course:
    """With a server that knows no streams."""
    walk = course.Course(kind)
    assert news(walk.refused(422, "sendInitialEvents is forbidden")) == []
    assert (walk.next, walk.delay_s) == (course.List(), 0.0)
    return walk


def end(version: int = 10) -> bytes:
    metadata = {"resourceVersion": str(version), "annotations": {course.END_OF_STREAM: "true"}}
    return event("BOOKMARK", {"metadata": metadata})


def watching(version: int = 10) -> course.Course:
    walk = course.Course("pod")
    walk.watching()
    walk.take_chunk(end(version), 1)
    walk.watching()
    return walk


def news(said: list[inputs.Input]) -> list[inputs.Input]:
    return [each for each in said if not isinstance(each, inputs.Recovered)]


def test_pages_are_gathered_into_one_list_and_the_watch_begins_at_its_version() -> None:
    walk = paging()
    assert news(walk.take_page(page("a", more="token"), 1)) == []
    assert walk.next == course.List("token")
    (listed,) = news(walk.take_page(page("b", version=12), 2))
    assert isinstance(listed, inputs.Listed)
    assert [each.subject.rpartition(".")[2] for each in listed.objects] == ["a", "b"]
    assert walk.next == course.Watch("12")


def test_a_stream_is_all_there_is_once_its_end_came_and_then_a_watch() -> None:
    walk = course.Course("pod")
    assert walk.next == course.Stream()
    assert news(walk.watching()) == []
    stream = event("ADDED", pod("a", 3)) + event("ADDED", pod("b", 4)) + event("ADDED", pod("c", 5))
    changed = event("DELETED", pod("b", 11)) + event("MODIFIED", pod("a", 12))
    assert (
        walk.take_chunk(stream + changed + event("BOOKMARK", {"metadata": {"resourceVersion": "9"}}), 1) == []
    )
    assert walk.next == course.Stream()
    (listed,) = news(walk.take_chunk(end(13), 2))
    assert isinstance(listed, inputs.Listed)
    assert [(each.subject[-1], each.resource_version) for each in listed.objects] == [("a", "12"), ("c", "5")]
    assert walk.next == course.Watch("13")
    (seen,) = walk.take_chunk(event("ADDED", pod("d", 14)), 3)
    assert isinstance(seen, inputs.Seen)


def test_a_stream_that_breaks_off_is_begun_anew_and_one_without_an_end_is_paged() -> None:
    walk = course.Course("pod")
    walk.watching()
    walk.take_chunk(event("ADDED", pod("old")), 1)
    walk.lost("reset", 5.0)
    assert walk.next == course.Stream()
    walk.watching()
    (listed,) = news(walk.take_chunk(event("ADDED", pod("a")) + end(), 2))
    assert isinstance(listed, inputs.Listed)
    assert len(listed.objects) == 1
    endless = course.Course("pod")
    endless.watching()
    assert isinstance(endless.ended(75.0)[0], inputs.Broken)
    assert endless.next == course.List()


def test_a_busy_server_says_when_to_come_back() -> None:
    walk = course.Course("pod")
    walk.refused(429, "too many requests", 7.0)
    assert walk.delay_s == 7.0
    walk.refused(429, "too many requests", 7e9)
    assert walk.delay_s == course.MAX_PATIENCE_S
    assert walk.next == course.Stream()


def test_a_bookmark_that_does_not_decode_advances_nothing() -> None:
    walk = watching(10)
    assert walk.take_chunk(event("BOOKMARK", {"metadata": 1}), 5) == []
    assert walk.next == course.Watch("10")


def test_events_cut_anywhere_are_read_whole() -> None:
    stream = event("ADDED", pod("a", 11)) + event("MODIFIED", pod("a", 12)) + event("DELETED", pod("a", 13))
    whole = watching().take_chunk(stream, 5)
    assert [type(each) for each in whole] == [inputs.Seen, inputs.Seen, inputs.Vanished]
    for cut in range(len(stream)):
        walk = watching()
        assert walk.take_chunk(stream[:cut], 5) + walk.take_chunk(stream[cut:], 5) == whole
        assert walk.next == course.Watch("13")


def test_a_deletion_names_the_very_object() -> None:
    (gone,) = watching().take_chunk(event("DELETED", pod("a")), 5)
    assert gone == inputs.Vanished("pod", "ebbgate.v1.fact.pod.default.a", "uid-a", 5)
    broken = pod("a") | {"status": 1}
    (gone,) = watching().take_chunk(event("DELETED", broken), 5)
    assert gone == inputs.Vanished("pod", "ebbgate.v1.fact.pod.default.a", "", 5)


def test_an_unreadable_object_is_passed_on_and_the_version_advances() -> None:
    walk = watching()
    (seen,) = walk.take_chunk(event("ADDED", pod("a", 15) | {"status": 1}), 5)
    assert isinstance(seen, inputs.Seen)
    assert isinstance(seen.object, objects.Unusable)
    assert walk.next == course.Watch("15")


def test_a_bookmark_only_advances_the_version() -> None:
    walk = watching()
    assert walk.take_chunk(event("BOOKMARK", {"metadata": {"resourceVersion": "77"}}), 5) == []
    assert walk.next == course.Watch("77")
    assert walk.take_chunk(event("BOOKMARK", {"metadata": {}}), 5) == []
    assert walk.next == course.Watch("77")


def test_an_expired_version_leads_to_a_new_list_in_silence() -> None:
    for expire in (
        lambda walk: walk.take_chunk(event("ERROR", {"code": 410, "reason": "Expired"}), 5),
        lambda walk: news(walk.refused(410, "too old")),
    ):
        walk = watching()
        assert expire(walk) == []
        assert walk.next == course.Stream()
        assert walk.delay_s > 0


def test_what_follows_an_error_in_the_same_chunk_is_void() -> None:
    walk = watching()
    stream = event("ERROR", {"code": 410}) + event("ADDED", pod("a"))
    assert walk.take_chunk(stream, 5) == []
    assert walk.take_chunk(event("ADDED", pod("b")), 5) == []
    assert walk.void()
    assert walk.ended(0.0) == []
    assert walk.next == course.Stream()


def test_an_expired_page_begins_the_list_again() -> None:
    walk = paging()
    walk.take_page(page("a", more="token"), 1)
    assert news(walk.refused(410, "expired")) == []
    assert walk.next == course.Stream()
    walk.refused(400, "unknown")
    (listed,) = news(walk.take_page(page("b"), 2))
    assert isinstance(listed, inputs.Listed)
    assert len(listed.objects) == 1


@pytest.mark.parametrize(
    "line",
    [
        event("ERROR", {"code": 500, "reason": "InternalError", "message": "etcd"}),
        event("ERROR", {"code": "x"}),
        b"not json\n",
        b'{"type": 1}\n',
    ],
)
def test_other_errors_of_a_watch_are_said_and_lead_to_a_new_list(line: bytes) -> None:
    walk = watching()
    (said,) = walk.take_chunk(line, 5)
    assert isinstance(said, inputs.Broken)
    assert walk.next == course.Stream()


def test_a_list_that_does_not_decode_is_asked_for_again() -> None:
    walk = paging()
    (said,) = news(walk.take_page(b"<html>", 1))
    assert isinstance(said, inputs.Broken)
    assert walk.next == course.List()
    assert walk.delay_s > 0


def test_a_kind_that_is_not_known_is_missing_and_asked_for_again() -> None:
    walk = course.Course("policy")
    assert news(walk.refused(404, "no")) == [inputs.Listed("policy", (), 0, missing=True)]
    assert (walk.next, walk.delay_s) == (course.Stream(), course.MISSING_DELAY_S)
    gone = watching()
    assert news(gone.refused(404, "no")) == []
    assert gone.next == course.Stream()


def test_a_refusal_is_said_and_the_same_request_repeated() -> None:
    walk = watching()
    assert news(walk.refused(403, "forbidden")) == [inputs.Broken("pod", "403 forbidden")]
    assert walk.next == course.Watch("10")


def test_a_lost_connection_is_a_trouble_of_the_server_and_the_watch_resumes() -> None:
    walk = watching()
    walk.take_chunk(event("ADDED", pod("a", 20)) + b'{"type": "ADD', 5)
    assert walk.lost("reset", 30.0) == [inputs.Broken(course.API, "reset", "pod")]
    assert walk.next == course.Watch("20")
    assert inputs.Recovered(course.API, "pod") in walk.watching()
    (seen,) = walk.take_chunk(event("ADDED", pod("b", 21)), 5)
    assert isinstance(seen, inputs.Seen)


def test_waiting_grows_with_failures_and_is_bounded() -> None:
    walk = course.Course("pod")
    delays = []
    for _ in range(12):
        walk.lost("refused", 0.0)
        delays.append(walk.delay_s)
    assert delays[:3] == [0.2, 0.4, 0.8]
    assert delays == sorted(delays)
    assert delays[-1] == course.MAX_DELAY_S
    walk.lost("reset", 60.0)
    assert walk.delay_s == course.FIRST_DELAY_S


def test_a_watch_that_ends_in_time_goes_on_at_once_and_one_that_never_begins_does_not() -> None:
    walk = watching()
    assert walk.ended(300.0) == []
    assert (walk.next, walk.delay_s) == (course.Watch("10"), 0.0)
    (said,) = walk.ended(0.01)
    assert isinstance(said, inputs.Broken)
    assert walk.delay_s > 0


def test_reasons_are_for_people() -> None:
    assert course.reason_of(b'{"message": "pods is forbidden"}') == "pods is forbidden"
    assert course.reason_of(b"<html>bad gateway") == "<html>bad gateway"
