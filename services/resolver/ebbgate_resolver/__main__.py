"""The resolver: follows facts and reports, steps the engine, publishes its batches. Composition root.

One task per input queues what arrives; one loop folds what is queued, steps once, and publishes once. The
engine decides everything; this shell only carries messages, and starts anew (claim, read, resolve) whenever
it can't know what PLAN holds.
"""

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable

from nats.aio.msg import Msg

from ebbgate_bus.contracts import facts, streams, subjects
from ebbgate_bus.contracts.envelope import Outgoing, Stored
from ebbgate_bus.contracts.permissions import Principal, Role
from ebbgate_bus.runtime import (
    connection,
    follower,
    health,
    jetstream,
    logs,
    publisher,
    revision,
    service,
    tracing,
    vitals,
)
from ebbgate_bus.runtime import metrics as measures
from ebbgate_resolver import settings as settings_
from ebbgate_resolver.core import engine
from ebbgate_resolver.io import memory, metrics, plan, spans, tally

TICK_S = 1.0
"""Time passes for slots and silent nodes even when nothing arrives."""
RETRY_S = 0.5
STAND_BY_S = 3.0
"""A resolver that was fenced takes over when no other has beaten for so long."""

UNKNOWN = -1
"""In place of the sequence of `plan.writer`: claim and read PLAN before anything is written."""

FOLLOWED = {
    "facts": [f"{subjects.ROOT}.fact.>", f"{subjects.ROOT}.synced.>"],
    "reports": [f"{subjects.ROOT}.status.>", f"{subjects.ROOT}.verdict.>"],
}

log = logging.getLogger("ebbgate_resolver")


class Shell:
    """One engine, its inputs and its output."""

    def __init__(self, bus: connection.Bus, settings: settings_.Settings, counts: tally.Tally) -> None:
        self._bus = bus
        self._counts = counts
        self._settings = settings
        self._engine = engine.Resolver(cluster_cidrs=settings.cluster_cidrs)
        self._woken = asyncio.Event()
        self._queue: list[tuple[str, follower.Batch]] = []
        self._read: set[str] = set()
        self._beat_name = f"{settings.name}-{os.getpid()}"
        self._other_beat_s = 0.0
        self._standing_by = False
        self._told = False
        self._timely = False
        self._kept = False
        self._sequence = UNKNOWN
        self._folding: tuple[int, int] | None = None
        self._queued_s: float | None = None
        self._undrawn_s: float | None = None
        self._verdicts = publisher.Publisher(bus)

    async def run(self) -> None:
        await jetstream.ensure_streams(self._bus, replicas=self._settings.nats_replicas)
        await self._verdicts.start()
        await self._subscribe_beats()
        async with asyncio.TaskGroup() as group:
            for source, stream in (("facts", streams.FACT), ("reports", streams.STATUS)):
                following = follower.Follower(self._bus, stream, FOLLOWED[source])
                group.create_task(self._enqueue(source, following.batches()))
            group.create_task(
                service.keep_beating(
                    self._bus, service="resolver", name=self._beat_name, lag=lambda: self.lag
                )
            )
            self._bus.on_interruption(self._interrupted)
            await self._work()

    async def _enqueue(self, source: str, batches: AsyncIterator[follower.Batch]) -> None:
        async for batch in batches:
            self._queue.append((source, batch))
            if self._queued_s is None:
                self._queued_s = time.monotonic()
            self._woken.set()

    async def _subscribe_beats(self) -> None:
        """Beats are not stored: a silent node, or resolver, is one that none came from."""

        async def of_programmer(message: Msg) -> None:
            beat = Stored(message.subject, message.data, 0)
            self._queue.append(("beats", follower.Batch(replaced=False, messages=(beat,))))

        async def of_resolver(message: Msg) -> None:
            if message.subject != subjects.beat("resolver", self._beat_name):
                self._other_beat_s = time.monotonic()

        await self._bus.subscribe(f"{subjects.ROOT}.beat.programmer.>", cb=of_programmer)
        await self._bus.subscribe(f"{subjects.ROOT}.beat.resolver.>", cb=of_resolver)

    def _interrupted(self) -> None:
        """After a reconnect PLAN may have another writer, or be empty."""
        self._sequence = UNKNOWN
        self._woken.set()

    async def _work(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._woken.wait()
            self._woken.clear()
            self._fold()
            if {"facts", "reports"} <= self._read and await self._is_writer():
                await self._step()
                self._keep_memory()
            if self._standing_by or self._sequence != UNKNOWN:
                self._undrawn_s = None
            self._tell()

    def _tell(self) -> None:
        """One line when the plan has first been written, or could be at once."""
        if not self._told and (self._kept or self._standing_by):
            self._told = True
            log.info("resolver.ready", extra={"fields": {"standing_by": self._standing_by}})

    def unready(self) -> str:
        """Why this resolver neither writes nor could at once, or empty. Who was ready stays so while the bus
        is away: nobody else would know more.
        """
        if self._told:
            return ""
        lacking = sorted({"facts", "reports"} - self._read)
        return f"{' and '.join(lacking)} aren't read yet" if lacking else "the plan can't be claimed yet"

    @property
    def lag(self) -> service.Lag:
        """Since the first fact or report was heard of which it isn't known that PLAN holds what follows. Who
        stands by has but to follow.
        """
        since = self._queued_s if self._undrawn_s is None else self._undrawn_s
        return service.Lag(0.0 if since is None else time.monotonic() - since, starting=not self._told)

    @property
    def state(self) -> metrics.State:
        leading = self._sequence != UNKNOWN
        return metrics.State(leading, self._told, self._engine.census, self._engine.verdicts)

    def _keep_memory(self) -> None:
        """Once, after the first step: the world is there, and stays."""
        if not self._kept:
            self._kept = True
            memory.keep()

    async def _is_writer(self) -> bool:
        """Claim PLAN if it isn't ours, unless another resolver took it and is alive: then stay warm."""
        if self._sequence != UNKNOWN:
            return True
        if self._standing_by and time.monotonic() - self._other_beat_s < STAND_BY_S:
            return False
        try:
            claim = await plan.claim(self._bus)
        except (revision.Fenced, revision.Unanswered, revision.Refused) as error:
            await self._lost(error)
            return False
        self._standing_by, self._sequence, self._engine.epoch = False, claim.sequence, claim.epoch
        self._engine.replace_plan(claim.rows, time.time())
        self._counts.claims += 1
        self._timely = False
        log.info("plan.claimed", extra={"fields": {"epoch": claim.epoch, "rows": len(claim.rows)}})
        return True

    async def _lost(self, error: Exception) -> None:
        """What PLAN holds is not known any more, because of `error`."""
        self._standing_by = isinstance(error, revision.Fenced)
        self._sequence = UNKNOWN
        self._counts.losses[type(error).__name__.lower()] += 1
        fields = {"reason": str(error), "standing_by": self._standing_by}
        log.warning("plan.lost", extra={"fields": fields})
        await asyncio.sleep(RETRY_S)
        self._woken.set()

    def _fold(self) -> None:
        queue, self._queue = self._queue, []
        if self._undrawn_s is None:
            self._undrawn_s = self._queued_s
        self._queued_s = None
        began_ns = time.time_ns()
        for source, batch in queue:
            self._counts.folded[source] += len(batch.messages)
            if batch.replaced:
                self._read.add(source)
                self._timely = False
            match source, batch.replaced:
                case "facts", True:
                    self._engine.replace_facts(batch.messages)
                case "reports", True:
                    self._engine.replace_reports(batch.messages)
                case _:
                    self._engine.fold(batch.messages)
        if queue:
            ended_ns = time.time_ns()
            self._counts.phases["fold"].observe((ended_ns - began_ns) / 1e9)
            self._folding = (self._folding[0] if self._folding else began_ns, ended_ns)

    async def _step(self) -> None:
        turn, self._folding = spans.Turn(self._engine.cause, self._folding), None
        step = turn.told(self._engine.step(time.time(), turn.traceparent))
        self._note(step, turn)
        began = time.perf_counter()
        try:
            for batch in step.batches:
                self._sequence = await revision.publish(self._bus, batch, expected_sequence=self._sequence)
        except (revision.Fenced, revision.Unanswered, revision.Refused) as error:
            await self._lost(error)
            return
        self._engine.stored(step)
        turn.stored(step.batches)
        self._counts.stored(step.batches, timely=self._timely)
        self._timely = True
        await self._report(step.verdicts)
        turn.ended(step.verdicts)
        if step.batches or step.verdicts:
            self._counts.phases["publish"].observe(time.perf_counter() - began)
        if step.batches:
            self._woken.set()  # what was stored may allow what had to wait for it
            messages = sum(map(len, step.batches))
            fields = {"messages": messages, "sequence": self._sequence, "trace": turn.trace_id}
            log.info("revision.stored", extra={"fields": fields})

    def _note(self, step: engine.Step, turn: spans.Turn) -> None:
        for note in step.notes:
            unreadable = note.event.endswith(".unreadable")
            level = logging.WARNING if unreadable else logging.INFO
            log.log(level, note.event, extra={"fields": note.fields})
            self._counts.unreadable += unreadable
        if step.batches or step.verdicts:
            self._counts.phases["resolve"].observe(turn.resolving_s)

    async def _report(self, verdicts: tuple[Outgoing, ...]) -> None:
        if not verdicts:
            return
        try:
            await self._verdicts.publish(verdicts)
            self._counts.verdicts += len(verdicts)
        except publisher.Refused as error:
            log.error("verdict.refused", extra={"fields": {"reason": str(error)}})


class Report:
    """What is said of us over HTTP: also while we wait for the bus, so that nobody restarts us for that."""

    def __init__(self) -> None:
        self.counts = tally.Tally()
        self.vitals = vitals.Vitals("resolver")
        self.shell: Shell | None = None

    def unready(self) -> str:
        return self.vitals.hindrance() or (self.shell.unready() if self.shell else "")

    def collect(self) -> Iterable[measures.Measured]:
        yield from self.vitals.measured()
        yield from metrics.collect(self.counts, self.shell.state if self.shell else None)


async def run(settings: settings_.Settings) -> None:
    report = Report()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(health.serve(health.Health(report.unready, report.collect), settings.health))
        bus = await report.vitals.connect(
            settings.reach, name=f"resolver-{settings.name}", principal=Principal(Role.RESOLVER)
        )
        log.info("resolver.started", extra={"fields": {"kinds": facts.KINDS}})
        report.shell = Shell(bus, settings, report.counts)
        await report.shell.run()


def main() -> None:
    settings = settings_.parse(sys.argv[1:])
    logs.setup(service="resolver", name=settings.name)
    tracing.setup(service="resolver", name=settings.name)
    memory.prepare()
    service.run(lambda: run(settings))


if __name__ == "__main__":
    main()
