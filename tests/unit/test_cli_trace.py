"""A trace put together from messages of the bus, and told as a tree."""

import datetime

import pytest
from rich.console import Console

from ebbgate_bus.contracts import codec, envelope, facts, reports, rows, subjects, trace
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.contracts.message import Message
from ebbgate_cli import trace_tree, traces
from ebbgate_cli.live import STORED_AT

SEEN_NS = 1_790_000_000_000_000_000
MS = 1_000_000
POLICY = facts.Policy(name="p", uid="p1", generation=1)
COMMIT = rows.Commit(epoch=1, revision=7, count=1, digest="0")
EVENT, OTHER = trace.Context("a" * 32, "1" * 16), trace.Context("b" * 32, "2" * 16)
PLAN, NODE = trace.Context("a" * 32, "3" * 16), trace.Context("a" * 32, "4" * 16)


def stored(
    subject: str, message: Message, context: trace.Context, work: trace.Work | None, at_ms: int
) -> Stored:
    at = datetime.datetime.fromtimestamp(SEEN_NS // 10**9, datetime.UTC)
    stamp = f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms:03d}000123Z"
    headers = trace.headers(context, work) | {STORED_AT: stamp}
    if message is POLICY:
        headers[envelope.SEEN] = str(SEEN_NS)
    return Stored(subject, codec.encode(message), at_ms + 1, headers)


def work(parent: trace.Context, at_ms: int, *links: trace.Context, **took_ms: float) -> trace.Work:
    return trace.Work(parent.span, SEEN_NS + at_ms * MS, took_ms, tuple(map(trace.text, links)), 3)


FACT = stored(subjects.fact("policy", "p"), POLICY, EVENT, None, 2)
PLANNED = stored(subjects.commit(subjects.ALL_SCOPE), COMMIT, PLAN, work(EVENT, 3, fold=1, resolve=2), 9)
APPLIED = stored(
    subjects.status("n1"),
    reports.Applied(node="n1", all_revision=7, problems=(reports.Problem(reason="no room"),)),
    NODE,
    work(PLAN, 10, bpf=4, nft=0.01, **{"read back": 2}),
    20,
)


def lines(found: traces.Trace | None) -> list[str]:
    assert found is not None
    console = Console(width=200, highlight=False)
    with console.capture() as captured:
        console.print(trace_tree.tree(found))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_the_walk_of_a_policy_is_a_tree_with_times() -> None:
    found = traces.newest([APPLIED, PLANNED, FACT, PLANNED], subjects.fact("policy", "p"))
    head, *rest = lines(found)
    assert head == f"policy p  2026-09-21 14:13:20.000 UTC  trace {'a' * 32}"
    assert rest == [
        "├── watcher  +0.0 ms, took 2.0 ms: seen and stored",
        "│   └── resolver  +3.0 ms, took 6.0 ms: revision 7 for all  [fold 1.0, resolve 2.0]",
        "│       └── n1  +10.0 ms, took 10.0 ms: revisions 7/0 in the kernel  [bpf 4.0, read back 2.0]",
        "│           └── no room",
        "└── in the last kernel after 14.0 ms",
    ]


def test_what_was_folded_with_another_event_is_told_of_each() -> None:
    planned = stored(PLANNED.subject, COMMIT, OTHER, work(OTHER, 3, EVENT, resolve=2), 9)
    told = lines(traces.newest([FACT, planned]))
    assert told[2].endswith("revision 7 for all  [resolve 2.0]  (together with another event)")


def test_nothing_followed_is_said() -> None:
    said = "└── nothing is known to have followed: no node's plan was changed, or by many events at once"
    assert lines(traces.newest([FACT]))[-1] == said


def judged(name: str, parent: trace.Context | None, at_ms: int, generation: int = 1) -> Stored:
    verdict = reports.Verdict(policy=name, uid="p1", generation=generation)
    context = trace.Context(OTHER.trace, f"{at_ms:016x}")
    made = work(parent, at_ms - 1, resolve=1) if parent else trace.Work("", SEEN_NS + at_ms * MS)
    return stored(subjects.verdict(name), verdict, context, made, at_ms)


@pytest.mark.parametrize("parent", [OTHER, None], ids=["of many at once", "found at a start"])
def test_a_policy_is_followed_to_the_turn_that_judged_it_whatever_that_names(
    parent: trace.Context | None,
) -> None:
    first, *later = (judged("p", parent, at) for at in (9, 19))
    others = [judged("q", parent, 7), judged("p", parent, 8, generation=2), judged("p", parent, 1)]
    found = traces.newest([FACT, *later, *others, first], FACT.subject)
    assert found is not None
    (step,) = found.root.steps
    assert step.says == ["verdict of p: ready"]
    assert (step.at_ns, step.shared) == ((8 if parent else 9) * MS, bool(parent))


def test_what_judged_an_event_of_long_ago_is_not_known() -> None:
    """Only the last verdict is kept of what is older than the journal: any later turn may have made it."""
    messages = [FACT, judged("p", None, 500)]
    for since_s, steps in ((SEEN_NS / 1e9, 1), (SEEN_NS / 1e9 + 1, 0)):
        found = traces.newest(messages, FACT.subject, whole_since_s=since_s)
        assert found is not None
        assert len(found.root.steps) == steps


def test_the_last_event_from_which_anything_followed_is_told_of() -> None:
    context = trace.Context("c" * 32, "5" * 16)
    idle = stored(FACT.subject, POLICY, context, None, 30)
    for messages in ([FACT, PLANNED, idle], [idle, PLANNED, FACT]):
        found = traces.newest(messages, FACT.subject)
        assert found is not None
        assert found.trace == EVENT.trace
    assert traces.newest([FACT, PLANNED], subjects.fact("policy", "q")) is None
    assert traces.newest([PLANNED]) is None


@pytest.mark.parametrize("payload", [b"{", b'{"v":9}'])
def test_what_cannot_be_read_is_named(payload: bytes) -> None:
    bad = Stored(PLANNED.subject, payload, PLANNED.sequence, PLANNED.headers)
    assert any(PLANNED.subject in line for line in lines(traces.newest([FACT, bad])))


def test_what_follows_is_read_from_the_first_event_that_is_looked_at() -> None:
    events = [stored(FACT.subject, POLICY, EVENT, None, at) for at in range(100)]
    assert traces.since_s(events, []) == pytest.approx(SEEN_NS / 1e9 + 0.080, abs=1e-3)
    assert traces.since_s(events[:3], [FACT.subject]) == pytest.approx(SEEN_NS / 1e9, abs=1e-3)
    assert traces.since_s(events, ["another"]) == 0.0


def test_a_trace_that_leads_back_to_itself_ends() -> None:
    loop = stored(PLANNED.subject, COMMIT, PLAN, work(PLAN, 3), 9)
    back = stored(subjects.status("n1"), reports.Applied(node="n1"), EVENT, work(EVENT, 4), 10)
    found = traces.newest([FACT, loop, back])
    assert found is not None
    assert [step.who for step in found.root.steps] == ["n1"]
