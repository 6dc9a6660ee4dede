"""`python -m ebbgate_watcher`: says on the bus what Kubernetes (or a directory of manifests) says.

Composes a source, the mirror and the bus, and turns the loop: take what arrived, step, carry out. One task
publishes, so that order on the bus is the order of the steps; sources and followers only fill its inbox. Who
isn't to publish turns the same loop: its mirror knows the world, and nothing of what is stored.
"""

import asyncio
import contextlib
import functools
import logging
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ebbgate_bus.contracts.permissions import Principal, Role
from ebbgate_bus.runtime import connection, health, jetstream, logs, revision, service, tracing, vitals
from ebbgate_bus.runtime import metrics as measures
from ebbgate_watcher import settings
from ebbgate_watcher.core import inputs, manifests, mirror, shapes
from ebbgate_watcher.io import bus, directory, leadership, metrics, sources, tally

if TYPE_CHECKING:
    from ebbgate_watcher.io import outcomes

INBOX_LIMIT = 256
"""Deliveries waiting; beyond it sources wait, and the API server keeps the rest."""
STEP_LIMIT = 256
"""Deliveries of one step: what a burst costs at most before the first of it is on the bus."""
RETRY_S = 0.5

log = logging.getLogger("ebbgate_watcher")


class _Inbox:
    """What arrived since the last step. `note` is for the few words that must never have to wait."""

    def __init__(self) -> None:
        self._notes: list[inputs.Input] = []
        self._queue: asyncio.Queue[Sequence[inputs.Input]] = asyncio.Queue(INBOX_LIMIT)
        self._stirred = asyncio.Event()

    async def deliver(self, arrived: Sequence[inputs.Input]) -> None:
        await self._queue.put(arrived)
        self._stirred.set()

    def note(self, said: Sequence[inputs.Input]) -> None:
        self._notes += said
        self._stirred.set()

    def stir(self) -> None:
        """Something changed that isn't an input."""
        self._stirred.set()

    async def drain(self, patience_s: float | None) -> list[inputs.Input]:
        """All that waits, up to STEP_LIMIT deliveries; nothing after `patience_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._stirred.wait()
        self._stirred.clear()
        arrived, self._notes = self._notes, []
        for _ in range(min(self._queue.qsize(), STEP_LIMIT)):
            arrived += self._queue.get_nowait()
        if not self._queue.empty():
            self._stirred.set()
        return arrived


class _Watcher:
    """The loop. `facts` is claimed while `lead` says that we lead, and lost whenever in doubt."""

    def __init__(
        self, facts: bus.Facts, lead: leadership.Leadership, inbox: _Inbox, kinds: Sequence[str]
    ) -> None:
        self._facts = facts
        self._lead = lead
        self._inbox = inbox
        self._mirror = mirror.Mirror(kinds)
        self._told = ""

    async def turn(self) -> None:
        while True:
            arrived = await self._inbox.drain(self._patience_s())
            if not self._facts.claimed or not self._lead.leading:
                arrived.append(inputs.Overtaken())
                self._facts.let_go()
            if not self._facts.claimed and self._lead.leading:
                arrived += await self._claim()
            try:
                await self._facts.carry_out(self._mirror.step(arrived, time.monotonic()))
            except bus.LOSSES as error:
                await self._lost(error)
            self._tell()

    def _patience_s(self) -> float | None:
        wake_at = self._mirror.wake_at()
        return None if wake_at is None else max(0.0, wake_at - time.monotonic())

    async def _claim(self) -> list[inputs.Input]:
        try:
            return [await self._facts.claim()]
        except (revision.Refused, *bus.LOSSES) as error:
            await self._lost(error)
            return []

    async def _lost(self, error: Exception) -> None:
        """Who writes FACT isn't known any more: see whether it is to be us."""
        self._facts.let_go()
        log.warning("facts.lost", extra={"fields": {"reason": str(error)}})
        await asyncio.sleep(RETRY_S)
        await self._lead.confirm()
        self._inbox.stir()

    def _tell(self) -> None:
        """One line when we become ready to publish, or to take over."""
        if self._mirror.ready and self._told != "leader":
            self._told = "leader"
            log.info("watcher.ready")
        elif self._stands_by() and self._told != "stand-by":
            self._told = "stand-by"
            log.info("watcher.warmed")

    def _stands_by(self) -> bool:
        return not self._lead.leading and self._lead.reachable and self._mirror.warm

    def unready(self) -> str:
        """Why this watcher neither publishes nor could at once, or empty. What was ready, and then lost sight
        of the API server, stays so: nobody else would see more.
        """
        if not self._lead.leading and not self._lead.reachable:
            return "the Lease can't be had; the log says why"
        return "" if self._told else "not every kind is listed and published; the log says what is missing"

    @property
    def starting(self) -> bool:
        """It could neither publish nor take over yet."""
        return not self._told

    @property
    def counts(self) -> dict[str, int]:
        """How many objects of each kind there are."""
        return self._mirror.counts


class _Report:
    """What is said of us over HTTP: also while we wait for the bus, so that nobody restarts us for that."""

    def __init__(self, counts: tally.Tally, lead: leadership.Leadership) -> None:
        self._counts = counts
        self._lead = lead
        self.watcher: _Watcher | None = None
        self.vitals = vitals.Vitals("watcher")

    def unready(self) -> str:
        return self.vitals.hindrance() or (self.watcher.unready() if self.watcher else "")

    def collect(self) -> Iterable[measures.Measured]:
        objects = self.watcher.counts if self.watcher else {}
        yield from self.vitals.measured()
        yield from metrics.collect(
            self._counts, objects, leading=self._lead.leading, ready=not self.unready()
        )


async def main(chosen: settings.Settings) -> None:
    inbox, counts = _Inbox(), tally.Tally()
    source, lead, outcome = _outside(chosen, counts, inbox.stir)
    report = _Report(counts, lead)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(health.serve(health.Health(report.unready, report.collect), chosen.health))
        nats = await report.vitals.connect(
            chosen.reach, name=f"watcher {chosen.name}", principal=Principal(Role.WATCHER)
        )
        kinds = manifests.kinds(node_networks=chosen.node_networks)
        facts = bus.Facts(nats, kinds, counts)
        report.watcher = _Watcher(facts, lead, inbox, kinds)
        try:
            await jetstream.ensure_streams(nats, replicas=chosen.nats_replicas)
            await facts.start()
            _heed_interruptions(nats, facts, inbox)
            async with asyncio.TaskGroup() as work:
                work.create_task(report.watcher.turn())
                work.create_task(lead.run(inbox.note))
                work.create_task(source.run(_both(outcome, inbox)))
                work.create_task(bus.follow_node_networks(nats, inbox.deliver))
                work.create_task(bus.follow_status(nats, inbox.deliver))
                if outcome:
                    work.create_task(bus.follow_verdicts(nats, outcome.hear))
                    work.create_task(outcome.run(inbox.note))
                work.create_task(
                    service.keep_beating(
                        nats,
                        service="watcher",
                        name=chosen.name,
                        lag=functools.partial(_lag, report.watcher, outcome),
                    )
                )
        finally:
            await lead.release()  # only now: nothing is published any more
            await nats.close()


def _lag(watcher: _Watcher, outcome: "outcomes.Outcomes | None") -> service.Lag:
    """Of what it follows that which somebody waits for: verdicts, to be written into statuses."""
    return service.Lag(outcome.behind_s if outcome else None, starting=watcher.starting)


def _both(outcome: "outcomes.Outcomes | None", inbox: _Inbox) -> sources.Deliver:
    """What the source says goes into facts, and is compared with verdicts."""
    if outcome is None:
        return inbox.deliver

    async def deliver(arrived: Sequence[inputs.Input]) -> None:
        await outcome.hear(arrived)
        await inbox.deliver(arrived)

    return deliver


def _heed_interruptions(nats: connection.Bus, facts: bus.Facts, inbox: _Inbox) -> None:
    def interrupted() -> None:
        facts.let_go()  # a bus that was away may have lost what it had
        inbox.stir()

    nats.on_interruption(interrupted)
    inbox.stir()


def _outside(
    chosen: settings.Settings, counts: tally.Tally, changed: Callable[[], None]
) -> tuple[sources.Source, leadership.Leadership, "outcomes.Outcomes | None"]:
    """A directory has no status and no Events: `ebbgate policies` shows what became of its policies."""
    if chosen.source == "directory":
        manifests_ = directory.Directory(chosen.path, counts, node_networks=chosen.node_networks)
        return manifests_, leadership.Alone(), None
    # Imported only where it is used: the official client takes 0.4 s and 45 MB.
    from ebbgate_watcher.io import api, election, kubernetes, outcomes

    access = api.Access(chosen.kubeconfig)
    lead: leadership.Leadership = leadership.Alone()
    if chosen.lease:
        lead = election.Elected(api.Api(access), chosen.lease, chosen.terms, me=chosen.name, changed=changed)
    outcome = outcomes.Outcomes(api.Api(access), lead, counts, me=chosen.name)
    return kubernetes.Kubernetes(access, counts), lead, outcome


if __name__ == "__main__":
    sys.setrecursionlimit(shapes.API_DEPTH + 1000)
    chosen = settings.parse_settings()
    logs.setup(service="watcher", name=chosen.name)
    tracing.setup(service="watcher", name=chosen.name)
    service.run(functools.partial(main, chosen))
