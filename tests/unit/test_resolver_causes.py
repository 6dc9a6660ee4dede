"""Which of several folded events a step goes on with, and which it links to."""

import pytest

from ebbgate_bus.contracts import trace
from ebbgate_bus.contracts.envelope import SEEN, TRACEPARENT, Stored
from ebbgate_resolver.core import causes

SPAN = "b" * 16


def event(number: int, *, sampled: bool = False) -> Stored:
    context = trace.Context(f"{number:032x}", SPAN, sampled)
    return Stored(f"subject-{number}", b"", number, {SEEN: str(number), TRACEPARENT: trace.text(context)})


@pytest.mark.parametrize(
    ("events", "chosen"),
    [
        ([(event(1), True)], 1),
        ([(event(1), True), (event(2), True)], 2),
        ([(event(1), True), (event(2), False)], 1),
        ([(event(1), False), (event(2), True)], 2),
        ([(event(1, sampled=True), True), (event(2), True)], 1),
        ([(event(1, sampled=True), False), (event(2), True)], 1),
    ],
)
def test_one_is_gone_on_with_and_the_others_are_linked_to(
    events: list[tuple[Stored, bool]], chosen: int
) -> None:
    found = causes.Causes()
    for message, is_fact in events:
        found.take(message, is_fact=is_fact)
    cause = found.cause
    assert cause.context is not None
    assert (int(cause.context.trace, 16), cause.subject) == (chosen, f"subject-{chosen}")
    others = [trace.parse(each) for each in cause.links]
    numbers = {int(each.trace, 16) for each in others if each}
    assert numbers == {message.sequence for message, _ in events} - {chosen}
    assert cause.events == len(events)
    assert found.headers("")[SEEN] == str(chosen)
    assert found.headers("mine") == {SEEN: str(chosen), TRACEPARENT: "mine"}


def test_nothing_follows_from_nothing() -> None:
    found = causes.Causes()
    found.take(Stored("subject", b"", 1), is_fact=True)
    found.take(Stored("subject", b"", 1, {"other": "header"}), is_fact=True)
    assert (found.cause, found.headers("")) == (causes.Cause(), {})
    assert found.headers("mine") == {TRACEPARENT: "mine"}


def test_a_trace_that_cannot_be_read_is_none_and_its_time_counts() -> None:
    found = causes.Causes()
    found.take(Stored("subject", b"", 1, {SEEN: "17", TRACEPARENT: "nonsense"}), is_fact=True)
    assert found.cause.context is None
    assert found.headers("mine")[SEEN] == "17"


def test_the_links_of_a_flood_are_bounded() -> None:
    found = causes.Causes()
    for number in range(1, 1000):
        found.take(event(number), is_fact=True)
    assert len(found.cause.links) == trace.MAX_LINKS
    assert found.cause.events == 999
