"""Rows of a scope, folded from messages, and whether they agree with a Commit. First station on the node.

Nothing is believed by its arrival: a scope counts only as of its last Commit whose count and digest agree
with the rows held. Until one agrees, what agreed last stays; a Commit that disagrees is no reason to read
again by itself. Payloads stay bytes: a node needs few of the shared rows. What is agreed shares its rows with
what agreed before, and with what is being gathered.
"""

from collections.abc import Iterable, Mapping

import msgspec

from ebbgate_bus.contracts import codec, digests, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.contracts.reports import Problem
from ebbgate_bus.contracts.rows import Commit
from ebbgate_programmer.core.sharded import Sharded


class Agreed(msgspec.Struct, frozen=True, eq=False):
    """The rows of a scope as of `commit`, which had `sequence` and `headers`. One is only equal to itself, so
    that what was made of many rows can be kept for as long as they stay.
    """

    rows: Mapping[str, bytes]
    commit: Commit
    sequence: int = 0
    headers: Mapping[str, str] = {}


class Scope(msgspec.Struct, frozen=True):
    """`name`: ALL_SCOPE or a node's. `rows`: as of the newest message, which had `sequence`; `agreed`: of the
    last good Commit.
    """

    name: str
    rows: Sharded[str, bytes] = Sharded()
    sequence: int = 0
    digest: int = 0
    agreed: Agreed | None = None
    disagrees: bool = False
    problem: Problem | None = None


def fold(scope: Scope, messages: Iterable[Stored], *, replaced: bool = False) -> Scope:
    """`scope` after `messages`. `replaced`: they are all there is, forget the rest.

    The stream's sequence counts, not the order of arrival; what is older than an earlier batch is known.
    """
    fresh = Scope(scope.name, agreed=scope.agreed) if replaced else scope
    held = _Held(fresh)
    for message in sorted(messages, key=lambda stored: stored.sequence):
        held.take(message)
    return held.scope()


class _Held:
    """A Scope while it is folded: rows are gathered, and put in their place when somebody will look."""

    def __init__(self, scope: Scope) -> None:
        self.name = scope.name
        self.rows, self.sequence = scope.rows, scope.sequence
        self.news: dict[str, bytes] = {}
        self.digest, self.agreed = scope.digest, scope.agreed
        self.disagrees, self.problem = scope.disagrees, scope.problem
        self.commit_subject = subjects.commit(scope.name)

    def take(self, message: Stored) -> None:
        if message.sequence <= self.sequence:
            return
        self.sequence = message.sequence
        if message.subject == self.commit_subject:
            self.settle()
            self.judge(message)
            return
        old = self.news.get(message.subject)
        if old is None:
            old = self.rows.get(message.subject, b"")
        self.digest = digests.replace(self.digest, message.subject, old, message.payload)
        self.news[message.subject] = message.payload

    def settle(self) -> None:
        gone = [subject for subject, payload in self.news.items() if not payload]
        self.rows = self.rows.changed({key: row for key, row in self.news.items() if row}, gone)
        self.news = {}

    def judge(self, message: Stored) -> None:
        try:
            commit = codec.decode(message.subject, message.payload)
        except codec.Undecodable as error:
            self.problem = Problem(reason=str(error), row=message.subject)
            return
        self.problem = None
        if not isinstance(commit, Commit):
            return
        self.disagrees = (commit.count, commit.digest) != (len(self.rows), digests.text(self.digest))
        if not self.disagrees:
            self.agreed = Agreed(self.rows, commit, message.sequence, dict(message.headers))

    def scope(self) -> Scope:
        self.settle()
        return Scope(
            name=self.name,
            rows=self.rows,
            sequence=self.sequence,
            digest=self.digest,
            agreed=self.agreed,
            disagrees=self.disagrees,
            problem=self.problem,
        )


def pair(shared: Scope, own: Scope) -> tuple[Agreed, Agreed] | None:
    """Both scopes as they belong together, or None: a node's rows wait for the `all` revision they need.

    Neither is taken as empty for want of a Commit: a plan just being written again must not look like one
    that wants nothing.
    """
    if shared.agreed is None or own.agreed is None:
        return None
    if shared.agreed.commit.revision < own.agreed.commit.all_revision:
        return None
    return shared.agreed, own.agreed
