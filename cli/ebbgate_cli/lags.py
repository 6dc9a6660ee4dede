"""How far each is behind what it reads, and since when: by the streams' own sequences and times.

Nobody's clock counts but the servers', and nobody is behind for what came while it was looked at: first is
read what there is, and some seconds later what its readers say of themselves.
"""

import datetime
from collections.abc import Iterable, Mapping

import msgspec
import nats.errors

from ebbgate_bus.contracts import codec, reports, rows, streams, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.runtime import connection, follower, jetstream
from ebbgate_cli import live, nodes, recordings

COMMITS = (f"{subjects.ROOT}.plan.all.commit", f"{subjects.ROOT}.plan.node.*.commit")
SINCE_MAX = 100
"""Of so many nodes it is asked when the first Commit came that they lack; of the others, the last."""


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """`who`: a service and its name, or a node. `of`: FACT, PLAN or STATUS. `count`: messages stored there
    since what it has worked through; of a node, revisions. `for_s`: since the first of them was stored.
    """

    who: str
    of: str
    count: int
    for_s: float


async def of_services(
    bus: connection.Bus, beats: Iterable[reports.Beat], stored: Mapping[str, int]
) -> list[Lag]:
    """`stored`: stream → the last sequence it had, some seconds before those `beats`."""
    found: dict[tuple[str, str], Lag] = {}
    for beat in beats:
        for filter_, sequence in beat.read.items():
            stream = streams.of(filter_)
            if stream is None or not (message := await _next(bus, stream, filter_, sequence)):
                continue
            number, at_s = message
            if number > (last := stored.get(stream.name, 0)):
                continue
            who = f"{beat.service} {beat.name}"
            lag = Lag(who=who, of=stream.name, count=last - sequence, for_s=await _now_s(bus, stream) - at_s)
            found[who, stream.name] = max(
                lag, found.get((who, stream.name), lag), key=lambda each: each.for_s
            )
    return list(found.values())


async def of_nodes(
    bus: connection.Bus, states: Iterable[nodes.NodeState], commits: Iterable[Stored]
) -> list[Lag]:
    """`commits`: the last of each scope, with the times at which they were stored."""
    late = [state for state in states if state.state == nodes.BEHIND]
    if not late:
        return []
    now_s = await _now_s(bus, streams.PLAN)
    scopes = [subjects.ALL_SCOPE, *(subjects.node_scope(state.node) for state in late[:SINCE_MAX])]
    said = await recordings.read(
        bus, streams.JOURNAL, [subjects.live(subjects.commit(scope)) for scope in scopes]
    )
    return [lag(state, (*said, *commits), now_s) for state in late]


def lag(state: nodes.NodeState, commits: Iterable[Stored], now_s: float) -> Lag:
    """Of a node that is behind: since the first of `commits` that it hasn't applied."""
    count = max(wanted - reached for wanted, reached in zip(state.wanted, state.revision, strict=True))
    reached = dict(zip((subjects.ALL_SCOPE, subjects.node_scope(state.node)), state.revision, strict=True))
    lacking = [
        _seconds(message.headers[live.STORED_AT])
        for message in commits
        if (scope := subjects.scope_of(message.subject)) in reached and _revision(message) > reached[scope]
    ]
    return Lag(who=state.node, of=streams.PLAN.name, count=count, for_s=now_s - min(lacking, default=now_s))


def _revision(message: Stored) -> int:
    try:
        commit = codec.decode(message.subject, message.payload)
    except codec.Undecodable:
        return 0
    return commit.revision if isinstance(commit, rows.Commit) else 0


async def _next(
    bus: connection.Bus, stream: streams.Stream, filter_: str, sequence: int
) -> tuple[int, float] | None:
    """The first message under `filter_` after `sequence`: its own, and when it was stored."""
    body = {"seq": sequence + 1, "next_by_subj": filter_}
    try:
        message = (await jetstream.request(bus, f"STREAM.MSG.GET.{stream.name}", body))["message"]
    except jetstream.ApiError as error:
        if error.code == follower.NO_MESSAGE:
            return None
        raise live.Unreachable(live.unreadable(stream)) from error
    except nats.errors.Error as error:
        raise live.Unreachable(live.unreadable(stream)) from error
    return int(message["seq"]), _seconds(message["time"])


async def _now_s(bus: connection.Bus, stream: streams.Stream) -> float:
    """By the clock of who stores there."""
    return _seconds((await jetstream.request(bus, f"STREAM.INFO.{stream.name}", {}))["ts"])


def _seconds(stamp: str) -> float:
    return datetime.datetime.fromisoformat(stamp).timestamp()
