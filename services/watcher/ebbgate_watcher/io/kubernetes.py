"""The Kubernetes source: raw requests to the API server; which ones, and what answers mean, says `course`.

The official client gives configuration, authentication and TLS only: its own watch loses the resource version
and can't relist (seen in 37.0.2), and its models cost eighty times the CPU of our shapes.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
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

    async def run(self, deliver: sources.Deliver) -> None:
        async with asyncio.TaskGroup() as kinds:
            for kind in PATHS:
                kinds.create_task(_Kind(kind, self._kubeconfig).follow(deliver))


class _Kind:
    """One kind's requests, on a client of its own: it can be renewed without touching the others'."""

    def __init__(self, kind: str, kubeconfig: str | None) -> None:
        self._kind = kind
        self._kubeconfig = kubeconfig
        self._course = course.Course(kind)
        self._client: ApiClient | None = None

    async def follow(self, deliver: sources.Deliver) -> None:
        try:
            while True:
                await asyncio.sleep(self._course.delay_s * random.uniform(0.5, 1.0))
                began = time.monotonic()
                try:
                    async with self._request() as response:
                        await self._take(response, deliver)
                except _FAILURES as error:
                    await deliver(self._course.lost(_text(error), time.monotonic() - began))
        finally:
            await self._forget_client()

    async def _take(self, response: aiohttp.ClientResponse, deliver: sources.Deliver) -> None:
        if response.status == UNAUTHORISED:
            await self._forget_client()  # tokens and certificates are renewed in their files
            await deliver(self._course.refused(response.status, "Unauthorized"))
        elif response.status != 200:
            await deliver(self._course.refused(response.status, course.reason_of(await response.read())))
        elif isinstance(self._course.next, course.List):
            body = await response.read()
            await deliver(self._course.take_page(body, time.time_ns()))
        else:
            await self._watch(response, deliver)

    async def _watch(self, response: aiohttp.ClientResponse, deliver: sources.Deliver) -> None:
        began = time.monotonic()
        await deliver(self._course.watching())
        with contextlib.suppress(TimeoutError):  # quiet for QUIET_S: perhaps half open, so begun anew
            async for chunk in response.content.iter_any():
                if said := self._course.take_chunk(chunk, time.time_ns()):
                    await deliver(said)
                if isinstance(self._course.next, course.List):
                    return
        await deliver(self._course.ended(time.monotonic() - began))

    @contextlib.asynccontextmanager
    async def _request(self) -> AsyncIterator[aiohttp.ClientResponse]:
        client = await self._ready_client()
        path = PATHS[self._kind]
        # Not compressed: unpacking costs more than the wire between a pod and its API server.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        await client.update_params_for_auth(headers, [], ["BearerToken"], path, "GET", None)
        answer = await client.rest_client.request(
            "GET",
            f"{client.configuration.host}{path}?{_query(self._course.next)}",
            headers=headers,
            _request_timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=QUIET_S),
        )
        response: aiohttp.ClientResponse = answer.response
        try:
            yield response
        finally:
            response.close()

    async def _ready_client(self) -> ApiClient:
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

    async def _forget_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
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
