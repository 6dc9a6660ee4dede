"""The Lease as it is asked for and renewed, by requests that `core.lease` chooses."""

import asyncio
import contextlib
import datetime
import logging
import os
import random
import time
from collections.abc import Callable

from ebbgate_watcher.core import inputs, lease
from ebbgate_watcher.io import api, leadership

RELEASE_S = 0.4
"""For giving the Lease back when stopped: less than it takes until the stop is asked for again."""

log = logging.getLogger(__name__)


class Elected:
    """`where`: namespace and name of the Lease. `changed` is called when `leading` may have changed."""

    def __init__(
        self,
        server: api.Api,
        where: tuple[str, str],
        terms: lease.Terms,
        *,
        me: str,
        changed: Callable[[], None],
    ) -> None:
        namespace, name = where
        self._api = server
        self._terms = terms
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name
        # As client-go has it: a restarted process isn't its predecessor, which may be alive elsewhere.
        self._election = lease.Election(namespace, name, f"{me}_{os.urandom(4).hex()}", terms)
        self._changed = changed
        self._asked = asyncio.Event()
        self._answered = asyncio.Event()
        self._led = False
        self._refused = True  # until it has been seen

    @property
    def leading(self) -> bool:
        return self._election.leading(time.monotonic())

    @property
    def reachable(self) -> bool:
        return not self._refused

    async def run(self, note: leadership.Note) -> None:
        last: list[inputs.Input] = []
        try:
            while True:
                said = await self._attempt()
                if said != last:
                    note(said)
                last = said
                self._answered.set()
                self._tell()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._election.delay_s * random.uniform(1.0, 1.2)):
                        await self._asked.wait()
                self._asked.clear()
        finally:
            await self._api.close()

    async def confirm(self) -> None:
        self._answered.clear()
        self._asked.set()
        await self._answered.wait()

    async def release(self) -> None:
        """Best effort: without it the next one waits for the Lease's time."""
        wanted = self._election.release(_wall())
        if wanted is None:
            return
        with contextlib.suppress(TimeoutError, *api.FAILURES):
            async with asyncio.timeout(RELEASE_S):
                await self._send(wanted)
                log.info("lease.released")
        await self._api.close()

    async def _attempt(self) -> list[inputs.Input]:
        began = time.monotonic()
        wanted = self._election.next(began, _wall())
        try:
            # Half of what a renewal may take at all, so that there is time for a second one.
            async with asyncio.timeout(self._terms.renew_s / 2):
                status, body = await self._send(wanted)
        except (TimeoutError, *api.FAILURES) as error:
            await self._api.failed(error)
            said = self._election.lost(api.text_of(error))
        else:
            if status == api.UNAUTHORISED:
                await self._api.refused()
            answered = self._election.read if isinstance(wanted, lease.Read) else self._election.written
            said = answered(status, body, began)
            self._refused = any(isinstance(each, inputs.Broken) for each in said)
        return said

    async def _send(self, wanted: lease.Read | lease.Write) -> tuple[int, bytes]:
        method, path, body = "GET", f"{self._path}/{self._name}", None
        if isinstance(wanted, lease.Write):
            body = wanted.body
            method, path = ("PUT", path) if wanted.exists else ("POST", self._path)
        request = self._api.request(method, path, body=body, silence_s=self._terms.renew_s)
        async with request as response:
            return response.status, await response.read()

    def _tell(self) -> None:
        leading = self.leading
        if leading != self._led:
            self._led = leading
            fields = {"holder": self._election.holder}
            log.info("lease.acquired" if leading else "lease.lost", extra={"fields": fields})
        self._changed()


def _wall() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
