"""Who is behind, and for how long, at least: services by what they say in their beats, by their own clocks;
nodes by the Commits that they lack, by the clock of the server that stored these.

Nobody is behind for what came while it was looked at: Commits are read some seconds before what nodes report.
"""

import datetime
from collections.abc import Iterable, Iterator

import msgspec

from ebbgate_bus.contracts import codec, reports, rows, streams, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.runtime import connection
from ebbgate_cli import live, nodes, recordings

COMMITS = (f"{subjects.ROOT}.plan.all.commit", f"{subjects.ROOT}.plan.node.*.commit")
SINCE_MAX = 100
"""Of so many nodes it is asked when the first Commit came that they lack; of the others, the last."""
NOTICED_S = 1.0
"""Who is behind for less is at it: a turn takes its time."""


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """`who`: a service and its name, or a node. `for_s`: how long, at least. `starting`: a service that
    hasn't been ready yet and started so long ago. `scopes`: of a node, those whose last Commit it lacks,
    `all` and `node`; of a service none.
    """

    who: str
    for_s: float
    starting: bool = False
    scopes: tuple[str, ...] = ()


def of_services(beats: Iterable[reports.Beat]) -> Iterator[Lag]:
    """Older versions say nothing of it."""
    for beat in beats:
        if beat.behind_s is not None and beat.behind_s >= NOTICED_S:
            yield Lag(who=f"{beat.service} {beat.name}", for_s=beat.behind_s, starting=beat.starting)


async def of_nodes(
    bus: connection.Bus, states: Iterable[nodes.NodeState], commits: Iterable[Stored], now_s: float
) -> list[Lag]:
    """`commits`: the last of each scope, with when they were stored. `now_s`: by the same clock."""
    late = [state for state in states if state.state == nodes.BEHIND]
    if not late:
        return []
    said = [*commits, *await _earlier(bus, late[:SINCE_MAX])]
    return [of_node(state, said, now_s) for state in late]


async def _earlier(bus: connection.Bus, late: Iterable[nodes.NodeState]) -> list[Stored]:
    """Commits of the last hour: PLAN keeps only a scope's last. None if the journal can't be read."""
    scopes = [subjects.ALL_SCOPE, *(subjects.node_scope(state.node) for state in late)]
    try:
        return await recordings.read(
            bus, streams.JOURNAL, [subjects.live(subjects.commit(scope)) for scope in scopes]
        )
    except live.Unreachable:
        return []


def of_node(state: nodes.NodeState, commits: Iterable[Stored], now_s: float) -> Lag:
    """Of a node that is behind: since the first of `commits` that it hasn't applied."""
    reached = dict(zip((subjects.ALL_SCOPE, subjects.node_scope(state.node)), state.revision, strict=True))
    lacking = [
        datetime.datetime.fromisoformat(message.headers[live.STORED_AT]).timestamp()
        for message in commits
        if (scope := subjects.scope_of(message.subject)) in reached and _revision(message) > reached[scope]
    ]
    pairs = zip(("all", "node"), state.wanted, state.revision, strict=True)
    return Lag(
        who=state.node,
        for_s=now_s - min(lacking, default=now_s),
        scopes=tuple(scope for scope, wanted, has in pairs if wanted > has),
    )


def _revision(message: Stored) -> int:
    try:
        commit = codec.decode(message.subject, message.payload)
    except codec.Undecodable:
        return 0
    return commit.revision if isinstance(commit, rows.Commit) else 0
