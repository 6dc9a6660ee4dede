"""The Kubernetes source: raw requests to the API server; which ones, and what answers mean, says `course`.

The official client gives configuration, authentication and TLS only: its own watch loses the resource version
and can't relist (seen in 37.0.2), and its models cost eighty times the CPU of our shapes.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import aiohttp
import yaml
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from ebbgate_watcher.core import course
from ebbgate_watcher.io import sources

PATHS = {
    "pod": "/api/v1/pods",
    "namespace": "/api/v1/namespaces",
    "node": "/api/v1/nodes",
    "policy": "/apis/cilium.io/v2/ciliumegressgatewaypolicies",
    "servicecidr": "/apis/networking.k8s.io/v1/servicecidrs",
}
WATCH_S = 300
"""A watch is asked to end after 5 to 6 minutes, so that load balancers and servers can let go of it."""
QUIET_S = 75.0
"""Bookmarks come each minute: a watch that is silent for longer may be half open, and is begun anew."""
CONNECT_S = 5.0
UNAUTHORISED = 401

_FAILURES = (aiohttp.ClientError, OSError, config.ConfigException)


class Kubernetes:
    """A source. `kubeconfig`: a file, or None for the service account of the pod this runs in."""

    def __init__(self, kubeconfig: str | None = None) -> None:
        self._kubeconfig = kubeconfig
        self._client: ApiClient | None = None
        self._loading = asyncio.Lock()

    async def run(self, deliver: sources.Deliver) -> None:
        try:
            async with asyncio.TaskGroup() as kinds:
                for kind in PATHS:
                    kinds.create_task(self._follow(kind, deliver))
        finally:
            if self._client is not None:
                await self._forget_client(self._client)

    async def _follow(self, kind: str, deliver: sources.Deliver) -> None:
        walk = course.Course(kind)
        while True:
            await asyncio.sleep(walk.delay_s * random.uniform(0.5, 1.0))
            began = time.monotonic()
            try:
                async with self._request(kind, walk.next) as response:
                    await self._take(walk, response, deliver)
            except TimeoutError as error:
                lasted = time.monotonic() - began
                quiet = lasted >= QUIET_S
                await deliver(walk.ended(lasted) if quiet else walk.lost(_text(error), lasted))
            except _FAILURES as error:
                await deliver(walk.lost(_text(error), time.monotonic() - began))

    async def _take(
        self, walk: course.Course, response: aiohttp.ClientResponse, deliver: sources.Deliver
    ) -> None:
        if response.status != 200:
            await deliver(walk.refused(response.status, course.reason_of(await response.read())))
        elif isinstance(walk.next, course.List):
            body = await response.read()
            await deliver(walk.take_page(body, time.time_ns()))
        else:
            began = time.monotonic()
            await deliver(walk.watching())
            async for chunk in response.content.iter_any():
                if said := walk.take_chunk(chunk, time.time_ns()):
                    await deliver(said)
                if isinstance(walk.next, course.List):
                    return
            await deliver(walk.ended(time.monotonic() - began))

    @asynccontextmanager
    async def _request(
        self, kind: str, wanted: course.List | course.Watch
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        client = await self._ready_client()
        # Not compressed: unpacking costs more than the wire between a pod and its API server.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        await client.update_params_for_auth(headers, [], ["BearerToken"], PATHS[kind], "GET", None)
        answer = await client.rest_client.request(
            "GET",
            f"{client.configuration.host}{PATHS[kind]}?{_query(wanted)}",
            headers=headers,
            _request_timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=QUIET_S),
        )
        response: aiohttp.ClientResponse = answer.response
        try:
            if response.status == UNAUTHORISED:  # certificates and tokens are renewed in their files
                await self._forget_client(client)
            yield response
        finally:
            response.close()

    async def _ready_client(self) -> ApiClient:
        async with self._loading:
            if self._client is None:
                try:
                    self._client = ApiClient(await self._load())
                except (ValueError, KeyError, TypeError, yaml.YAMLError) as error:
                    raise config.ConfigException(f"reading the kubeconfig: {_text(error)}") from error
            return self._client

    async def _load(self) -> Configuration:
        settings = Configuration()
        if self._kubeconfig:
            await config.load_kube_config(self._kubeconfig, client_configuration=settings)
        else:
            config.load_incluster_config(client_configuration=settings)
        return settings

    async def _forget_client(self, client: ApiClient) -> None:
        current = client is self._client  # else another kind's request was faster
        if current:
            self._client = None
            await client.close()


def _query(wanted: course.List | course.Watch) -> str:
    if isinstance(wanted, course.List):
        fields: dict[str, object] = {"limit": course.PAGE_SIZE}
        return urlencode(fields | ({"continue": wanted.continue_} if wanted.continue_ else {}))
    return urlencode(
        {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": wanted.resource_version,
            "timeoutSeconds": random.randint(WATCH_S, WATCH_S + 60),
        }
    )


def _text(error: BaseException) -> str:
    return str(error) or repr(error)
