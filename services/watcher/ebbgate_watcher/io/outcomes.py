"""Statuses and Events as they are sent to the API server, by requests that `core.outcomes` chooses.

One at a time, and only while this watcher leads. Facts never wait for it: it hears what the source delivers
and what the resolver says, and works at a pace of its own.
"""

import asyncio
import contextlib
import datetime
import logging
import random
import time
from collections.abc import Sequence

from ebbgate_watcher.core import inputs, outcomes, recorder
from ebbgate_watcher.io import api, leadership, spans, tally

POLICIES = f"/apis/cilium.io/v2/{outcomes.PLURAL}"
EVENTS = f"/apis/events.k8s.io/v1/namespaces/{recorder.NAMESPACE}/events"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
ANSWER_S = 10.0
LOOK_S = 1.0
"""While another leads, and between looks at whether we still do."""

log = logging.getLogger(__name__)


class Outcomes:
    """`me`: which watcher says it."""

    def __init__(self, server: api.Api, lead: leadership.Leadership, counts: tally.Tally, *, me: str) -> None:
        self._api = server
        self._lead = lead
        self._counts = counts
        self._outcomes = outcomes.Outcomes(me)
        self._stirred = asyncio.Event()
        self._leads = False
        self._spans = spans.Statuses()

    @property
    def behind_s(self) -> float | None:
        """For so long some verdict has waited to be written, 0 if none does; None while another leads."""
        return self._outcomes.behind_s(time.monotonic()) if self._leads else None

    async def hear(self, arrived: Sequence[inputs.Input]) -> None:
        self._outcomes.hear(arrived, time.monotonic())
        for said in arrived:
            for message in said.messages if isinstance(said, inputs.Reported) else ():
                self._spans.hear(message)
        self._stirred.set()

    async def run(self, note: leadership.Note) -> None:
        """`note`: hands over what is to be logged."""
        try:
            while True:
                await self._wait()
                self._look()
                while self._leads and (request := self._outcomes.next(time.monotonic(), _wall())):
                    if said := await self._attempt(request):
                        note(said)
                    self._look()
        finally:
            await self._api.close()

    async def _wait(self) -> None:
        wake_at = self._outcomes.wake_at() if self._leads else None
        patience_s = LOOK_S if wake_at is None else max(0.0, wake_at - time.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(LOOK_S, patience_s * random.uniform(1.0, 1.2))):
                await self._stirred.wait()
        self._stirred.clear()

    def _look(self) -> None:
        """Whether it is ours to write has changed?"""
        leads = self._lead.leading
        if leads and not self._leads:
            self._outcomes.begin(time.monotonic())
        elif self._leads and not leads:
            self._outcomes.rest()
        self._leads = leads

    async def _attempt(self, request: outcomes.Request) -> list[inputs.Input]:
        began_ns = time.time_ns()
        try:
            async with asyncio.timeout(ANSWER_S), self._send(request) as response:
                status, body = response.status, await response.read()
                patience_s = api.patience_s(response)
        except (TimeoutError, *api.FAILURES) as error:
            await self._api.failed(error)
            return self._outcomes.lost(request, api.text_of(error), time.monotonic())
        if status == api.UNAUTHORISED:
            await self._api.refused()
        self._counts.sent(_name(request), status)
        if isinstance(request, outcomes.WriteStatus):
            self._spans.written(request.name, began_ns, status)
        return self._outcomes.answered(request, status, body, time.monotonic(), patience_s)

    def _send(self, request: outcomes.Request) -> api.Answer:
        match request:
            case outcomes.WriteStatus():
                path = f"{POLICIES}/{request.name}/status?fieldManager={outcomes.FIELD_MANAGER}&force=true"
                return self._request("PATCH", path, request.body, APPLY)
            case outcomes.AskKind():
                return self._request("GET", POLICIES.rpartition("/")[0])
            case recorder.Create():
                return self._request("POST", EVENTS, request.body)
            case recorder.Count():
                return self._request("PATCH", f"{EVENTS}/{request.name}", request.body, MERGE)

    def _request(
        self, method: str, path: str, body: object = None, content_type: str = api.JSON
    ) -> api.Answer:
        return self._api.request(method, path, body=body, silence_s=ANSWER_S, content_type=content_type)


def _name(request: outcomes.Request) -> str:
    match request:
        case outcomes.WriteStatus():
            return "status"
        case outcomes.AskKind():
            return "discovery"
    return "event"


def _wall() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
