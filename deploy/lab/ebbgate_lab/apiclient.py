"""JSON over HTTP to the lab's kube-apiserver and etcd, also when they listen inside a network namespace.

The lab itself stays where it was started; only the socket is made inside the namespace, and a socket belongs
to the namespace it was made in for as long as it lives.
"""

import http.client
import json
import pathlib
import socket
import ssl
from collections.abc import Callable
from typing import Any

from ebbgate_lab import namespaces

TIMEOUT_S = 10.0

Condition = Callable[[], bool]


class Refused(Exception):
    """The server's answer wasn't a success. `status`: HTTP's."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Client:
    """One connection, kept while it works. `authority`: certificate to trust; None: plain HTTP."""

    def __init__(
        self, host: str, port: int, *, token: str = "", authority: pathlib.Path | None = None, netns: str = ""
    ) -> None:
        self._address = (host, port)
        self._authority = authority
        self._netns = netns
        self._headers = {"Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._tls: ssl.SSLContext | None = None
        self._connection: http.client.HTTPConnection | None = None

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """The decoded answer. Raises Refused, OSError."""
        status, answer = self.request(method, path, body)
        if status >= 300:
            message = answer.get("message") or answer.get("error") or "no reason given"
            raise Refused(f"{method} {path}: {status} {message}", status)
        return answer

    def request(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """HTTP status and decoded answer, whatever it is (empty if it isn't a JSON object)."""
        kept = self._connection is not None
        try:
            return self._exchange(method, path, body)
        except (OSError, http.client.HTTPException):
            self.close()
            if not kept:
                raise
        # The server, or its predecessor, had closed what was kept; all requests here may be repeated.
        return self.request(method, path, body)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(self, method: str, path: str, body: object) -> tuple[int, dict[str, Any]]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT_S)
            self._connection.sock = self._connect()
        kind = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
        text = json.dumps(body) if body is not None else None
        self._connection.request(method, path, text, self._headers | {"Content-Type": kind})
        response = self._connection.getresponse()
        return response.status, _decode(response.read())

    def _connect(self) -> socket.socket:
        plain = _socket_inside(self._netns)
        try:
            plain.settimeout(TIMEOUT_S)
            # Headers and body are two writes; the second would wait for the ack of the first, 40 ms.
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.connect(self._address)
            if self._authority is None:
                return plain
            self._tls = self._tls or ssl.create_default_context(cafile=self._authority)
            return self._tls.wrap_socket(plain, server_hostname=self._address[0])
        except BaseException:
            plain.close()
            raise


def answers(holds: Condition) -> bool:
    """Whether `holds`; not yet, too, while nothing answers at all."""
    try:
        return holds()
    except (OSError, http.client.HTTPException):
        return False


def _decode(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _socket_inside(netns: str) -> socket.socket:
    if not netns:
        return socket.socket()
    with namespaces.entered(netns):
        return socket.socket()
