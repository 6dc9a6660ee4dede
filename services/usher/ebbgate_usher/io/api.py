"""The Kubernetes API, as the usher needs it: a request and its JSON. In a pod, by its ServiceAccount.

The official client isn't used: three requests don't need its 45 MB. The token is read anew for each request,
as Kubernetes replaces it every hour.
"""

import os
import pathlib
import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec

MOUNT = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
PATIENCE_S = 10.0
MERGE = "application/merge-patch+json"
FAILURES = (OSError, TimeoutError, aiohttp.ClientError)


class Refused(Exception):
    """The API server answered, and not with what was asked for."""


class Place(msgspec.Struct, frozen=True):
    """Where the API server is, and the files that let us in."""

    url: str
    token: pathlib.Path = MOUNT / "token"
    ca: pathlib.Path = MOUNT / "ca.crt"


def in_cluster(env: Mapping[str, str] = os.environ) -> str:
    """The API server's address, as each pod is told it; empty outside of one."""
    host, port = env.get("KUBERNETES_SERVICE_HOST", ""), env.get("KUBERNETES_SERVICE_PORT", "443")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}" if host else ""


class Api:
    """Made within the event loop."""

    def __init__(self, place: Place) -> None:
        self._place = place
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(place.ca)))
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)

    async def close(self) -> None:
        await self._session.close()

    async def call(
        self, method: str, path: str, body: object = None, *, missing_ok: bool = False
    ) -> dict[str, Any]:
        """The answer; nothing if there is no such object and that is no error. Raises Refused, FAILURES."""
        headers = {
            "Authorization": f"Bearer {self._place.token.read_text().strip()}",
            "Content-Type": MERGE if method == "PATCH" else "application/json",
        }
        data = msgspec.json.encode(body) if body is not None else None
        async with self._session.request(
            method, self._place.url + path, data=data, headers=headers
        ) as answer:
            text = await answer.read()
            if answer.status == 404 and missing_ok:
                return {}
            if answer.status >= 300:
                raise Refused(f"{method} {path}: {answer.status} {_reason(text)}")
            decoded: dict[str, Any] = msgspec.json.decode(text)
            return decoded


def _reason(text: bytes) -> str:
    """Kubernetes' words, without anything that was sent."""
    try:
        return str(msgspec.json.decode(text).get("message", ""))
    except (msgspec.DecodeError, AttributeError):
        return ""
