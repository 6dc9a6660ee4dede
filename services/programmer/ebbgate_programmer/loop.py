"""The programmer's shell: messages, hints and time in, passes over the kernel, reports out.

Level-triggered: whatever wakes it, it does the same pass from all that is known. The kernel's work runs in
one worker thread; reports go out on their own, so that a bus that is away never keeps drift from repair.
"""

import asyncio
import concurrent.futures
import contextlib
import functools
import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from ebbgate_bus.contracts import codec, envelope, facts, reports, streams, subjects
from ebbgate_bus.runtime import connection, follower, publisher, service, tracing
from ebbgate_programmer import installer, settings, telling
from ebbgate_programmer.core import applied, scopes
from ebbgate_programmer.io import hints, kernel, spans, tally

AnswerT = TypeVar("AnswerT")

HINT_DEBOUNCE_S = 0.02
"""A change comes as several messages; one look is enough."""
HINT_INTERVAL_S = 1.0
"""Reading all costs some 10 ms: on a node whose network changes all day not more than once a second."""
PAUSES = 200
"""Between two looks that nothing hinted at, in units of what a look costs: half a percent of a core."""
RETRY_S = 0.1
"""After a pass that couldn't do all; each further one waits twice as long, up to the usual pause."""
QUIET_S = 2.0
"""A scope that disagrees with its Commit for so long, with nothing coming, is read anew."""
CHECK_S = 60.0
"""How often a node of a cluster of servers asks for its Commits, though nothing hints at one it lacks."""

log = logging.getLogger(__name__)


class Programmer:
    """One node's. Made and run inside the event loop."""

    def __init__(self, chosen: settings.Settings, bus: connection.Bus, counts: tally.Tally) -> None:
        self._settings, self._bus, self._counts = chosen, bus, counts
        counts.unready = "no plan for this node is on the bus yet"
        self._node = chosen.node
        self._shared = scopes.Scope(subjects.ALL_SCOPE)
        self._own = scopes.Scope(subjects.node_scope(chosen.node))
        self._worker = concurrent.futures.ThreadPoolExecutor(1, "kernel")
        self._hints = hints.Hints(self._hinted)
        self._wake = asyncio.Event()
        self._unsure = asyncio.Event()
        self._fresh = True
        self._next_hint = 0.0
        self._pause_s = chosen.resync_s
        self._retry_s = RETRY_S
        self._hint_timer: asyncio.TimerHandle | None = None
        self._quiet_timer: asyncio.TimerHandle | None = None
        self._reports = Reports(chosen.node, bus, counts)

    async def run(self) -> None:
        """Until cancelled. Leaves the kernel as it is."""
        made = await self._in_worker(
            lambda: kernel.Kernel(
                self._settings.pin_path,
                self._settings.bpf_object,
                attach=self._settings.attach,
                direct=self._settings.direct,
            )
        )
        self._telling = telling.Telling(self._node, self._bus, made, self._counts)
        passes = installer.Installer(made, node=self._node, port=self._settings.port, drain=self._hints.drain)
        try:
            await self._reports.recall()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow())
                tasks.create_task(self._check_for_ever())
                tasks.create_task(self._pass_for_ever(passes))
                tasks.create_task(self._reports.publish_for_ever())
                for stream, subject in self._reports.subjects:
                    tasks.create_task(self._reports.mind(stream, subject, self._wake.set))
                tasks.create_task(self._telling.stats_for_ever(self._in_worker))
                tasks.create_task(self._telling.drops_for_ever())
                tasks.create_task(service.keep_beating(self._bus, service="programmer", name=self._node))
        finally:
            # A pass that is under way still drains hints.
            self._worker.submit(made.close)
            self._worker.shutdown(wait=True)
            self._hints.close()

    async def _follow(self) -> None:
        filters = (f"{subjects.ALL_SCOPE}.>", f"{subjects.node_scope(self._node)}.>")
        async for batch in follower.Follower(self._bus, streams.PLAN, filters).batches():
            shared = [each for each in batch.messages if each.subject.startswith(f"{self._shared.name}.")]
            own = [each for each in batch.messages if each.subject.startswith(f"{self._own.name}.")]
            self._shared = scopes.fold(self._shared, shared, replaced=batch.replaced)
            self._own = scopes.fold(self._own, own, replaced=batch.replaced)
            # Until the next one comes their messages would be kept.
            if batch.replaced:
                self._unsure.set()
            del batch, shared, own
            self._mind_quiet()
            self._wake.set()

    async def _check_for_ever(self) -> None:
        """Were we given all there was? What a replica that was behind kept from us, or a leader that died
        before it said it, whole revisions, looks right by itself and wouldn't come any more.
        """
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_S):
                    await self._unsure.wait()
            self._unsure.clear()
            if not self._bus.clustered:
                continue
            await asyncio.sleep(QUIET_S * (1 + random.random()))
            commits = [subjects.commit(scope.name) for scope in (self._shared, self._own)]
            stored = await follower.read(self._bus, streams.PLAN, commits)
            known = max(self._shared.sequence, self._own.sequence)
            if any(message.sequence > known for message in stored):
                self._read_anew()

    def _mind_quiet(self) -> None:
        """Starts or stops the wait after which rows that disagree with their Commit are read anew."""
        if self._quiet_timer is not None:
            self._quiet_timer.cancel()
            self._quiet_timer = None
        if self._shared.disagrees or self._own.disagrees:
            # With jitter: thousands of nodes that missed the same message mustn't all ask at once.
            delay = QUIET_S * (1 + random.random())
            self._quiet_timer = asyncio.get_running_loop().call_later(delay, self._read_anew)

    def _read_anew(self) -> None:
        log.warning("plan.disagreed", extra={"fields": {"node": self._node, "reason": "reading it anew"}})
        self._counts.disagreements += 1
        self._bus.interrupted()

    def _hinted(self) -> None:
        loop = asyncio.get_running_loop()
        if self._hint_timer is None:
            delay = max(HINT_DEBOUNCE_S, self._next_hint - loop.time())
            self._hint_timer = loop.call_later(delay, self._look_again)

    def _look_again(self) -> None:
        self._hint_timer = None
        self._next_hint = asyncio.get_running_loop().time() + HINT_INTERVAL_S
        self._fresh = True
        self._wake.set()

    async def _pass_for_ever(self, passes: installer.Installer) -> None:
        while True:
            fresh, self._fresh = self._fresh, False
            self._wake.clear()
            agreed, began_s = scopes.pair(self._shared, self._own), time.monotonic()
            outcome = await self._in_worker(functools.partial(passes.step, agreed, fresh=fresh))
            if fresh and not outcome.changes:
                self._pause_s = max(self._settings.resync_s, PAUSES * outcome.cpu_s)
            self._telling.names = outcome.names
            self._counts.passed(_result(outcome), began_s, outcome.spans)
            self._reports.take(agreed, outcome, (self._shared.problem, self._own.problem))
            await self._until_woken(self._next_pause(outcome))

    def _next_pause(self, outcome: installer.Outcome) -> float:
        if not outcome.lacking:
            self._retry_s = RETRY_S
            return self._pause_s
        pause_s = min(self._retry_s, self._pause_s)
        self._retry_s = 2 * pause_s
        return pause_s

    async def _until_woken(self, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                await self._wake.wait()
        except TimeoutError:
            self._fresh = True

    async def _in_worker(self, work: Callable[[], AnswerT]) -> AnswerT:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)


def _result(outcome: installer.Outcome) -> str:
    if outcome.lacking:
        return "lacking"
    if outcome.drifted:
        return "repaired"
    return "changed" if outcome.changes else "unchanged"


class Reports:
    """What the node says of itself: the latest Applied and NodeNetwork, each published when it changed."""

    def __init__(self, node: str, bus: connection.Bus, counts: tally.Tally) -> None:
        self._node, self._bus, self._counts = node, bus, counts
        self._publisher = publisher.Publisher(bus)
        self._waiting: dict[str, envelope.Outgoing] = {}
        self._filled = asyncio.Event()
        self._applied: reports.Applied | None = None
        self._network: facts.NodeNetwork | None = None
        self._told: tuple[str, ...] = ()
        self._sequences = (0, 0)
        self._passes: dict[str, str] = {}
        self.subjects = (
            (streams.STATUS, subjects.status(node)),
            (streams.FACT, subjects.fact("nodenetwork", node)),
        )
        self._logged = (0, 0, 0)

    async def recall(self) -> None:
        """What was said before the last restart: an unchanged world is not reported again."""
        await self._publisher.start()
        for stream, subject in self.subjects:
            for stored in await follower.read(self._bus, stream, [subject]):
                self._remember(stored)

    async def mind(self, stream: streams.Stream, subject: str, missed: Callable[[], None]) -> None:
        """Calls `missed` when the stream doesn't hold what was said: it lost it, or the watcher removed it
        while this node had no Node object. It is said again then.
        """
        async for batch in follower.Follower(self._bus, stream, [subject]).batches():
            if batch.replaced or batch.messages:
                stored = batch.messages[-1].payload if batch.messages else b""
                if not stored and self._forget(subject):
                    missed()

    def _forget(self, subject: str) -> bool:
        """Whether there was something to forget."""
        if subject == subjects.status(self._node):
            known, self._applied = self._applied, None
            return known is not None
        known_network, self._network = self._network, None
        return known_network is not None

    def _remember(self, stored: envelope.Stored) -> None:
        try:
            said = codec.decode(stored.subject, stored.payload)
        except codec.Undecodable:  # an older version's; ours replaces it
            return
        if isinstance(said, reports.Applied):
            self._applied = said
        elif isinstance(said, facts.NodeNetwork):
            self._network = said

    async def publish_for_ever(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            waiting, self._waiting = list(self._waiting.values()), {}
            began_ns = time.time_ns()
            try:
                await self._publisher.publish(waiting)
                for message in waiting:
                    spans.record_send(message, self._passes.pop(message.subject, ""), began_ns)
            except publisher.Refused as error:
                log.error("report.refused", extra={"fields": {"node": self._node, "reason": str(error)}})

    def take(
        self,
        agreed: installer.Pair | None,
        outcome: installer.Outcome,
        commits: tuple[reports.Problem | None, ...],
    ) -> None:
        """Notes and logs what a pass found; what is new goes out."""
        said = facts.NodeNetwork(node=self._node, interfaces=outcome.interfaces)
        if said != self._network:
            self._network = said
            self._say(subjects.fact("nodenetwork", self._node), said, tracing.headers())
        problems = (*outcome.problems, *(problem for problem in commits if problem))
        self._tell_problems(tuple(problem.reason for problem in problems))
        self._counts.problems = len(problems)
        self._counts.changes.update(outcome.changes)
        self._counts.drifts += outcome.drifted
        held = outcome.held
        if held is None and (self._applied is None or agreed is None):
            return
        drift = (self._applied.drift_repairs if self._applied else 0) + outcome.drifted
        if held is None:
            assert self._applied is not None
            new = msgspec.structs.replace(self._applied, problems=problems)
        else:
            new = applied.report(self._node, agreed, held, problems)
            new = msgspec.structs.replace(new, drift_repairs=drift, took_ms=outcome.took_ms)
        news = self._news(agreed)
        told = spans.Pass(news, outcome.spans)
        self._log(new, outcome, told.trace_id)
        self._counts.applied = new
        if held is not None and self._counts.unready:
            self._counts.unready = ""
            fields = {"node": self._node, "changes": len(outcome.changes)}
            log.info("programmer.ready", extra={"fields": fields})
        if applied.says_more(new, self._applied):
            self._applied = new
            told.record(new, outcome.changes)
            self._passes[subjects.status(self._node)] = told.span_id
            headers = applied.headers(agreed) if agreed and news else {}
            self._say(subjects.status(self._node), new, headers | told.headers())

    def _news(self, agreed: installer.Pair | None) -> list[scopes.Agreed]:
        """Scopes of which the Commit is new since the last time, the newest first."""
        if agreed is None:
            return []
        known, self._sequences = self._sequences, (agreed[0].sequence, agreed[1].sequence)
        news = [each for each, before in zip(agreed, known, strict=True) if each.sequence > before]
        if news and any(known):  # the first plan after a start may follow from an event of long ago
            self._counts.arrived(applied.headers(agreed).get(envelope.SEEN, ""))
        return sorted(news, key=lambda each: each.sequence, reverse=True)

    def _say(
        self, subject: str, message: facts.NodeNetwork | reports.Applied, headers: dict[str, str]
    ) -> None:
        self._waiting[subject] = envelope.Outgoing(subject, codec.encode(message), headers)
        self._filled.set()

    def _tell_problems(self, reasons: tuple[str, ...]) -> None:
        for reason in reasons:
            if reason not in self._told:
                log.warning("problem.found", extra={"fields": {"node": self._node, "reason": reason}})
        for reason in self._told:
            if reason not in reasons:
                log.info("problem.solved", extra={"fields": {"node": self._node, "reason": reason}})
        self._told = reasons

    def _log(self, new: reports.Applied, outcome: installer.Outcome, trace_id: str) -> None:
        """One line when something was written, and one when a plan is found in place already."""
        revisions = (new.epoch, new.all_revision, new.node_revision)
        if outcome.changes or revisions != self._logged:
            fields = {
                "node": self._node,
                "all_revision": new.all_revision,
                "node_revision": new.node_revision,
                "changes": outcome.changes,
                "took_ms": outcome.took_ms,
                "trace": trace_id,
            }
            log.info("drift.repaired" if outcome.drifted else "plan.applied", extra={"fields": fields})
        self._logged = revisions
