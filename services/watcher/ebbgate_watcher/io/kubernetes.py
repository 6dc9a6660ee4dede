"""The Kubernetes source: lists and watches of each kind; which ones, and what answers mean, says `course`.

It asks as a guest of a busy server does: under a name of its own (User-Agent), one request per kind, pages
or streams instead of whole lists, metadata alone where labels suffice, later when told so, and never all
kinds at the same moment again.
"""

import asyncio
import contextlib
import random
import time
from urllib.parse import urlencode

import aiohttp

from ebbgate_watcher.core import course
from ebbgate_watcher.io import api, sources, tally

PATHS = {
    "pod": "/api/v1/pods",
    "namespace": "/api/v1/namespaces",
    "node": "/api/v1/nodes",
    "policy": "/apis/cilium.io/v2/ciliumegressgatewaypolicies",
    "servicecidr": "/apis/networking.k8s.io/v1/servicecidrs",
}
LABELS_SUFFICE = frozenset({"namespace"})
"""Kinds of which the server is asked for the metadata alone."""
WATCH_S = 300
"""A watch is asked to end after 5 to 6 minutes, so that load balancers and servers can let go of it."""
QUIET_S = 75.0
"""Bookmarks come each minute: a watch that is silent for longer may be half open, and is begun anew."""


class Kubernetes:
    """A source."""

    def __init__(self, access: api.Access, counts: tally.Tally) -> None:
        self._access = access
        self._counts = counts

    async def run(self, deliver: sources.Deliver) -> None:
        async with asyncio.TaskGroup() as kinds:
            for kind in PATHS:
                follower = _Kind(kind, api.Api(self._access), self._counts)
                kinds.create_task(follower.follow(deliver))


class _Kind:
    """One kind's requests."""

    def __init__(self, kind: str, server: api.Api, counts: tally.Tally) -> None:
        self._kind = kind
        self._api = server
        self._counts = counts.kind(kind)
        self._normalised = counts.normalised
        self._course = course.Course(kind)

    async def follow(self, deliver: sources.Deliver) -> None:
        try:
            while True:
                await asyncio.sleep(self._course.delay_s * random.uniform(1.0, 1.5))
                began = time.monotonic()
                try:
                    async with self._request() as response:
                        await self._take(response, deliver)
                except api.FAILURES as error:
                    await self._api.failed(error)
                    await deliver(self._course.lost(api.text_of(error), time.monotonic() - began))
                finally:
                    self._counts.watching_since = None
        finally:
            await self._api.close()

    async def _take(self, response: aiohttp.ClientResponse, deliver: sources.Deliver) -> None:
        if response.status == api.UNAUTHORISED:
            await self._api.refused()
            await deliver(self._course.refused(response.status, "Unauthorized"))
        elif response.status != 200:
            reason = course.reason_of(await response.read())
            await deliver(self._course.refused(response.status, reason, api.patience_s(response)))
        elif isinstance(self._course.next, course.List):
            body, seen_ns = await response.read(), time.time_ns()
            said = self._course.take_page(body, seen_ns)
            self._normalised(seen_ns)
            self._counts.heard(said)
            await deliver(said)
        else:
            await self._watch(response, deliver)

    async def _watch(self, response: aiohttp.ClientResponse, deliver: sources.Deliver) -> None:
        began = self._counts.watching_since = time.monotonic()
        await deliver(self._course.watching())
        with contextlib.suppress(TimeoutError):  # quiet for QUIET_S: perhaps half open, so begun anew
            async for chunk in response.content.iter_any():
                seen_ns = time.time_ns()
                if said := self._course.take_chunk(chunk, seen_ns):
                    self._normalised(seen_ns)
                    self._counts.heard(said)
                    await deliver(said)
                if self._course.void():
                    return
        await deliver(self._course.ended(time.monotonic() - began))

    def _request(self) -> api.Answer:
        path = f"{PATHS[self._kind]}?{_query(self._course.next)}"
        return self._api.request("GET", path, accept=self._accept(), silence_s=QUIET_S)

    def _accept(self) -> str:
        if self._kind not in LABELS_SUFFICE:
            return api.JSON
        form = "PartialObjectMetadata" + ("List" if isinstance(self._course.next, course.List) else "")
        return f"{api.JSON};as={form};g=meta.k8s.io;v=v1,{api.JSON}"


def _query(wanted: course.Stream | course.List | course.Watch) -> str:
    if isinstance(wanted, course.List):
        fields: dict[str, object] = {"limit": course.PAGE_SIZE}
        return urlencode(fields | ({"continue": wanted.continue_} if wanted.continue_ else {}))
    fields = {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": random.randint(WATCH_S, WATCH_S + 60),
    }
    if isinstance(wanted, course.Stream):
        return urlencode(fields | {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"})
    return urlencode(fields | {"resourceVersion": wanted.resource_version})
