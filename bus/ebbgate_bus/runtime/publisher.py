"""Pipelined publishing into a stream: many messages under way, every ack checked, none given up.

One wildcard inbox and a counter take the acks (nats-py's own publish_async costs ten times as much CPU). What
was not acknowledged when the connection broke is sent again, in order: messages replace each other by
subject, so sending twice does no harm, and the last of a subject stays the last.
"""

import asyncio
import json
import logging
from collections.abc import Sequence

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.runtime import connection

WINDOW = 2048
"""Unacknowledged messages under way; more gained nothing when measured."""
ACK_TIMEOUT_S = 5.0
RETRY_S = 0.2

log = logging.getLogger(__name__)


class Refused(Exception):
    """The stream will never take these messages (too large, no permission); all others were stored."""

    def __init__(self, refusals: Sequence[tuple[Outgoing, str]]) -> None:
        first, reason = refusals[0]
        super().__init__(f"{len(refusals)} messages refused, the first {first.subject}: {reason}")
        self.refusals = tuple(refusals)


class _Unanswered(Exception):
    """The connection broke, or JetStream is not there for now."""


class Publisher:
    """Publishes lists of messages. One list at a time; callers queue up, so that order is kept."""

    def __init__(self, bus: connection.Bus) -> None:
        self._bus = bus
        self._turn = asyncio.Lock()
        self._acks: dict[str, asyncio.Future[str]] = {}
        self._counter = 0
        self._inbox: Subscription | None = None
        self._prefix = ""

    async def start(self) -> None:
        self._prefix = self._bus.new_inbox()
        self._inbox = await self._bus.subscribe(f"{self._prefix}.*", cb=self._acknowledged)
        self._bus.on_interruption(self._interrupted)

    async def publish(self, outgoing: Sequence[Outgoing]) -> None:
        """Store all of `outgoing`; returns when each is acknowledged. Raises Refused, after storing the
        rest.
        """
        async with self._turn:
            refusals: list[tuple[Outgoing, str]] = []
            for start in range(0, len(outgoing), WINDOW):
                refusals += await self._publish_window(outgoing[start : start + WINDOW])
        if refusals:
            raise Refused(refusals)

    async def _publish_window(self, window: Sequence[Outgoing]) -> list[tuple[Outgoing, str]]:
        while True:
            try:
                reasons = await self._attempt(window)
            except _Unanswered as error:
                log.warning(
                    "publish.repeated", extra={"fields": {"messages": len(window), "reason": str(error)}}
                )
                await asyncio.sleep(RETRY_S)
            else:
                return [(message, reason) for message, reason in zip(window, reasons, strict=True) if reason]

    async def _attempt(self, window: Sequence[Outgoing]) -> list[str]:
        waiting = []
        try:
            for message in window:
                waiting.append(await self._send(message))
            async with asyncio.timeout(ACK_TIMEOUT_S):
                return [await ack for ack in waiting]
        except TimeoutError as error:
            raise _Unanswered("no ack in time") from error
        finally:
            self._acks.clear()
            for ack in waiting:
                ack.cancel()

    async def _send(self, message: Outgoing) -> asyncio.Future[str]:
        self._counter += 1
        key = str(self._counter)
        ack = self._acks[key] = asyncio.get_running_loop().create_future()
        await self._bus.publish(
            message.subject, message.payload, reply=f"{self._prefix}.{key}", headers=message.headers or None
        )
        return ack

    async def _acknowledged(self, reply: Msg) -> None:
        ack = self._acks.pop(reply.subject.rpartition(".")[2], None)
        if ack is None or ack.done():
            return
        if not reply.data:  # the server's "no responders": the stream, or all of JetStream, is away
            ack.set_exception(_Unanswered("no stream takes this subject for now"))
            return
        error = json.loads(reply.data).get("error")
        if error and error.get("code") == 503:
            ack.set_exception(_Unanswered(error["description"]))
        else:
            ack.set_result(error["description"] if error else "")

    def _interrupted(self) -> None:
        for ack in self._acks.values():
            if not ack.done():
                ack.set_exception(_Unanswered("the connection broke"))
