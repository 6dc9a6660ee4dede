"""Requests to the Kubernetes API server: who we are, how it is reached, one request at a time. No decisions.

The official client gives configuration, authentication and TLS only: its own watch loses the resource version
and can't relist (seen in 37.0.2), and its models cost eighty times the CPU of our shapes. TLS is always
verified: a kubeconfig that says otherwise is refused.

What is renewed in files (tokens, certificates, the kubeconfig itself) is read again once the server, or TLS,
refused it; the token of a pod's service account each minute, too.
"""

import asyncio
import contextlib
import importlib.metadata
import logging
import socket
from collections.abc import AsyncIterator, Iterator

import aiohttp
import yaml
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

USER_AGENT = f"ebbgate-watcher/{importlib.metadata.version('ebbgate-watcher')}"
JSON = "application/json"
CONNECT_S = 5.0
KEEP_ALIVE = {socket.TCP_KEEPIDLE: 6, socket.TCP_KEEPINTVL: 2, socket.TCP_KEEPCNT: 3}
"""A connection whose other end is gone is noticed after 12 s."""
LOAD_S = 60.0
"""How long an exec plugin may take; some ask a cloud's API."""
UNAUTHORISED = 401
FAILURES = (aiohttp.ClientError, OSError, config.ConfigException)
"""What a request may raise: nobody is there, or what says how to get there can't be used."""
Answer = contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]
"""To a request, once entered."""


class Access:
    """How to reach the API server. Read once for all who ask, and again when it was refused: an exec plugin
    runs once, however many kinds there are. `kubeconfig`: None for the service account of the pod.
    """

    def __init__(self, kubeconfig: str | None) -> None:
        self._kubeconfig = kubeconfig
        self._turn = asyncio.Lock()
        self._current: Configuration | None = None

    async def configuration(self) -> Configuration:
        async with self._turn:
            if self._current is None:
                try:
                    async with asyncio.timeout(LOAD_S):
                        self._current = await self._load()
                except TimeoutError as error:
                    raise config.ConfigException(f"no credentials within {LOAD_S:.0f} s") from error
                except (ValueError, KeyError, TypeError, yaml.YAMLError) as error:
                    raise config.ConfigException(f"reading the kubeconfig: {text_of(error)}") from error
            return self._current

    def renew(self, refused: Configuration) -> None:
        """Read it again, unless that has been done since `refused` was."""
        if self._current is refused:
            self._current = None

    async def _load(self) -> Configuration:
        settings = Configuration()
        if not self._kubeconfig:
            config.load_incluster_config(client_configuration=settings)
            return settings
        with _overheard() as complaints:
            await config.load_kube_config(self._kubeconfig, client_configuration=settings)
        if not settings.verify_ssl:
            raise config.ConfigException(
                "the kubeconfig says insecure-skip-tls-verify, and the API server is always verified here: "
                "give its certificate-authority instead"
            )
        if not settings.api_key and not settings.cert_file:
            why = "; ".join(complaints) or "its user has no token, certificate or exec plugin"
            raise config.ConfigException(f"the kubeconfig gives no credentials: {why}")
        return settings


class Api:
    """Requests of one task, on connections of its own: they can be renewed without touching the others'."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._client: ApiClient | None = None

    @contextlib.asynccontextmanager
    async def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        accept: str = JSON,
        silence_s: float,
        content_type: str = JSON,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer, whatever its status, with its body unread. `silence_s`: longest wait for more of it.

        Raises one of FAILURES, and TimeoutError while the body is read.
        """
        client = await self._ready_client()
        # Not compressed: unpacking costs more than the wire between a pod and its API server.
        headers = {"Accept": accept, "Accept-Encoding": "identity", "User-Agent": USER_AGENT}
        if body is not None:
            headers["Content-Type"] = content_type
        await client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=silence_s)
        answer = await client.rest_client.request(
            method, f"{client.configuration.host}{path}", headers=headers, body=body, _request_timeout=timeout
        )
        response: aiohttp.ClientResponse = answer.response
        try:
            _keep_alive(response)
            yield response
        finally:
            response.close()

    async def refused(self) -> None:
        """The server doesn't know us any more: the next request has credentials as they are then."""
        if self._client is not None:
            self._access.renew(self._client.configuration)
        await self.close()

    async def failed(self, error: BaseException) -> None:
        """A request raised `error`: the next one has a connection of its own. An authority that is replaced
        is a file that is read again, too.
        """
        await (self.refused() if isinstance(error, aiohttp.ClientSSLError) else self.close())

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _ready_client(self) -> ApiClient:
        if self._client is None:
            self._client = ApiClient(await self._access.configuration())
        return self._client


def _keep_alive(response: aiohttp.ClientResponse) -> None:
    """A watch only listens: without probes it would wait on a host, or a path, that is gone."""
    transport = response.connection.transport if response.connection else None
    if transport is not None:
        opened = transport.get_extra_info("socket")
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEP_ALIVE.items():
            opened.setsockopt(socket.IPPROTO_TCP, option, value)


def patience_s(response: aiohttp.ClientResponse) -> float:
    """Retry-After, where the server says it in seconds."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else 0.0


def text_of(error: BaseException) -> str:
    return str(error) or repr(error)


@contextlib.contextmanager
def _overheard() -> Iterator[list[str]]:
    """What the official client logs meanwhile: it says nowhere else why an exec plugin failed."""
    heard: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    logger = logging.getLogger("kubernetes.aio.config.kube_config")
    listener, propagate = Listener(logging.ERROR), logger.propagate
    logger.addHandler(listener)
    logger.propagate = False
    try:
        yield heard
    finally:
        logger.removeHandler(listener)
        logger.propagate = propagate
