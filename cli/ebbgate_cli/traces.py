"""Messages of the bus put together to a trace: which work followed from which, when, and for how long. Pure.

A message names the span that sent it; Commits, Applied and Verdicts also name the span that they followed
from. So the walk from an object to the kernels is a tree, and nobody needs to have collected spans. Events
that were folded together share what follows: it hangs below each of them.
"""

import datetime
from collections.abc import Iterable, Sequence

import msgspec

from ebbgate_bus.contracts import codec, envelope, facts, reports, rows, standing, subjects, trace
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.contracts.message import Message
from ebbgate_cli import lines, live

LOOKED_AT = 20
"""Events, the last first, until one is found from which anything followed."""
SCOPES_MAX = 5
"""Of a revision so many are named."""
MAX_STEPS = 2000
"""Of one trace: as many nodes as a person may scroll through."""


class Step(msgspec.Struct):
    """`who`: watcher, resolver, or a node. `at_ns`: since the event was seen. `took_ns`: until what it said
    was stored. `stages`: milliseconds. `shared`: it goes on with the trace of another event.
    """

    who: str
    says: list[str]
    at_ns: int
    took_ns: int
    stages: dict[str, float]
    messages: int
    shared: bool
    troubles: list[str]
    steps: list["Step"]


class Trace(msgspec.Struct):
    """`about`: the kind and name of what changed. `seen_ns`: since 1970. `kernel_ns`: from there until the
    last kernel was written; 0 if none was. `root`: the watcher's step.
    """

    about: str
    trace: str
    seen_ns: int
    kernel_ns: int
    root: Step


class _Group(msgspec.Struct):
    """Messages of one turn: of the resolver's there may be many, each sent by one of two spans."""

    messages: list[Stored]
    spans: set[str]
    work: trace.Work


def since_s(events: Iterable[Stored], subjects_: Sequence[str]) -> float:
    """From when on what follows from the last LOOKED_AT `events` is to be read, in seconds since 1970; of
    those of `subjects_`, if there are any.
    """
    times = sorted(_stored_ns(each) for each in events if not subjects_ or each.subject in subjects_)
    return times[-LOOKED_AT:][0] / 1e9 if times else 0.0


def newest(messages: Sequence[Stored], subject: str = "", *, whole_since_s: float = 0.0) -> Trace | None:
    """Of the events of `subject` (a fact's; empty: of any) the last one from which anything followed; else
    the last one. None: there is none. `whole_since_s`: from when on no message is missing, since 1970.
    """
    messages = _once(messages)
    groups = _grouped(messages)
    events = [each for each in messages if _begins(each, subject)]
    events.sort(key=_stored_ns, reverse=True)
    with_parents = {group.work.parent for group in groups}
    links = {each.trace for group in groups for each in map(trace.parse, group.work.links) if each}
    for event in events:
        context = trace.of(event.headers)
        judging = _judging(event, groups) if _stored_ns(event) >= whole_since_s * 1e9 else None
        if context and (context.span in with_parents or context.trace in links or judging):
            return _trace(event, groups, judging)
    return _trace(events[0], groups, None) if events else None


def _once(messages: Iterable[Stored]) -> list[Stored]:
    """What comes from two streams is one message: the first counts."""
    found: dict[tuple[str, int], Stored] = {}
    for message in messages:
        found.setdefault((message.subject, message.sequence), message)
    return list(found.values())


def _begins(message: Stored, subject: str) -> bool:
    if not trace.of(message.headers):
        return False
    if subject:
        return message.subject == subject
    name = subjects.parse(message.subject)
    return bool(name and name.kind.startswith("fact.") and name.kind != "fact.writer")


def _grouped(messages: Iterable[Stored]) -> list[_Group]:
    """In the order in which they began."""
    groups: dict[tuple[str, int, str], _Group] = {}
    for message in messages:
        context, work = trace.of(message.headers), trace.work(message.headers)
        if context is None or work is None:
            continue
        key = (work.parent or context.trace, work.began_ns, _who(message))
        group = groups.setdefault(key, _Group([], set(), work))
        group.messages.append(message)
        group.spans.add(context.span)
    return sorted(groups.values(), key=lambda group: group.work.began_ns)


def _who(message: Stored) -> str:
    name = subjects.parse(message.subject)
    return name.ids[0] if name and name.kind == "status" else "resolver"


def _trace(event: Stored, groups: Sequence[_Group], judging: _Group | None) -> Trace:
    """`judging`: the turn that judged it, where that may be known."""
    context = trace.of(event.headers)
    assert context is not None
    seen = event.headers.get(envelope.SEEN, "")
    stored_ns = _stored_ns(event)
    seen_ns = int(seen) if seen.isdecimal() else stored_ns
    building = _Building(groups, seen_ns)
    root = Step(
        who="watcher",
        says=["gone" if not event.payload else "seen and stored"],
        at_ns=0,
        took_ns=stored_ns - seen_ns,
        stages={},
        messages=1,
        shared=False,
        troubles=[],
        steps=building.after({context.span}, context.trace, judging),
    )
    return Trace(lines.named(event.subject), context.trace, seen_ns, building.kernel_ns, root)


class _Building:
    """Hangs groups below what they followed from; each once."""

    def __init__(self, groups: Sequence[_Group], seen_ns: int) -> None:
        self._left = list(groups)
        self._seen_ns = seen_ns
        self._made = 0
        self.kernel_ns = 0

    def after(self, spans: set[str], linked: str = "", also: _Group | None = None) -> list[Step]:
        """`linked`: a trace that others may have taken up. `also`: followed from it, whatever it says."""
        found = [
            group
            for group in self._left
            if group.work.parent in spans or _links_to(group, linked) or group is also
        ]
        found = found[: MAX_STEPS - self._made]
        self._made += len(found)
        taken = set(map(id, found))
        self._left = [group for group in self._left if id(group) not in taken]
        return [self._step(group, spans) for group in found]

    def _step(self, group: _Group, spans: set[str]) -> Step:
        work, stored_ns = group.work, max(map(_stored_ns, group.messages))
        if (who := _who(group.messages[0])) != "resolver":
            in_kernel = sum(took for stage, took in work.took_ms.items() if stage != "read back")
            kernel_ns = work.began_ns + int(in_kernel * 1e6) - self._seen_ns
            self.kernel_ns = max(self.kernel_ns, kernel_ns)
        says, troubles = _said(group.messages)
        return Step(
            who=who,
            says=says,
            at_ns=work.began_ns - self._seen_ns,
            took_ns=max(0, stored_ns - work.began_ns),
            stages=work.took_ms,
            messages=work.messages,
            shared=bool(work.parent) and work.parent not in spans,
            troubles=troubles,
            steps=self.after(group.spans),
        )


def _links_to(group: _Group, trace_id: str) -> bool:
    return any(each.trace == trace_id for each in map(trace.parse, group.work.links) if each)


def _judging(event: Stored, groups: Sequence[_Group]) -> _Group | None:
    """Of a policy the first turn that judges this very version of it, though it may name others' events: of
    many that come together it is linked to some only (trace.MAX_LINKS), and to none that a resolver found at
    its start.
    """
    policy = _decoded(event)
    if not isinstance(policy, facts.Policy):
        return None
    version = (policy.name, policy.uid, policy.generation)
    verdict, since_ns = subjects.verdict(policy.name), _stored_ns(event)
    judged: list[tuple[int, int]] = []
    for number, group in enumerate(groups):
        for message in group.messages:
            if message.subject != verdict or _stored_ns(message) < since_ns:
                continue
            found = _decoded(message)
            if isinstance(found, reports.Verdict) and (found.policy, found.uid, found.generation) == version:
                judged.append((_stored_ns(message), number))
    return groups[min(judged)[1]] if judged else None


def _decoded(message: Stored) -> Message | facts.Gone | None:
    try:
        return codec.decode(message.subject, message.payload)
    except codec.Undecodable:
        return None


def _said(messages: Sequence[Stored]) -> tuple[list[str], list[str]]:
    """For people: what the messages say, and what is wrong."""
    revisions: dict[int, list[str]] = {}
    says: list[str] = []
    troubles: list[str] = []
    for message in messages:
        name = subjects.parse(message.subject)
        try:
            decoded = codec.decode(message.subject, message.payload)
        except codec.Undecodable as error:
            troubles.append(str(error))
            continue
        match decoded:
            case rows.Commit():
                revisions.setdefault(decoded.revision, []).append((name.node if name else "") or "all")
            case reports.Verdict():
                says.append(f"verdict of {decoded.policy}: {_verdict(decoded)}")
            case reports.Applied():
                says.append(f"revisions {decoded.all_revision}/{decoded.node_revision} in the kernel")
                troubles += [problem.reason for problem in decoded.problems]
    planned = [
        f"revision {number} for {lines.few(sorted(set(scopes)), SCOPES_MAX)}"
        for number, scopes in sorted(revisions.items())
    ]
    return planned + says, troubles


def _verdict(verdict: reports.Verdict) -> str:
    hindrance = standing.hindrance(verdict)
    return f"{hindrance.type} is {hindrance.status}, {hindrance.reason}" if hindrance else "ready"


def _stored_ns(message: Stored) -> int:
    """0 if it isn't known. The server writes nanoseconds, of which Python's own reading knows six digits."""
    stamp = message.headers.get(live.STORED_AT, "")
    whole, _, rest = stamp.partition(".")
    digits = rest.rstrip("Z").partition("+")[0]
    try:
        seconds = datetime.datetime.fromisoformat(f"{whole.rstrip('Z').partition('+')[0]}+00:00").timestamp()
        return int(seconds) * 1_000_000_000 + int(digits.ljust(9, "0")[:9] or "0")
    except ValueError:
        return 0


def as_json(found: Trace) -> str:
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode()
