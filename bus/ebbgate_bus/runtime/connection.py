"""The connection to nats-server: waits for it at start, comes back for ever, says so once per change.

nats-py knows one callback per event and connection; `Bus` passes interruptions on to whoever must read again
what it may have missed (followers), or send again what may not have arrived (the publisher). It also reads
certificates and credentials anew for each attempt, and never gives up where nats-py would: a server that
takes a credential back ends the connection, and the next attempt may have a better one.
"""

import asyncio
import logging
import random
import ssl
import urllib.parse
from collections.abc import Callable
from typing import Any

import nats.errors
from nats.aio.client import Client

from ebbgate_bus.contracts import permissions
from ebbgate_bus.runtime import access

PATIENCE: dict[str, Any] = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.1, "connect_timeout": 2}
"""For ever, and soon: 0.3-0.6 s from server restart to the first message, 1.7 s with the library's
2 s (measured)."""
ASKED_S = 5.0
"""Instead of connect_timeout, where the server asks another service about us: when a fleet comes back that
takes its turn, and who gives up and comes again makes it longer. The server waits as long (`accounts`).
"""
REFUSED_S = 1.0
"""Who was refused asks less often: a fleet with wrong credentials mustn't keep servers from their work."""
PENDING_BYTES = 64 * 1024 * 1024
"""What is published while disconnected waits here; the publisher's window stays far below."""
_HUNG_UP = "APPLICATION_DATA_AFTER_CLOSE_NOTIFY"
"""OpenSSL's word for what still comes in after we hung up, on a server that didn't answer in time: no reason
of its own, and said after the reason.
"""
TROUBLES = 64
"""Different ones that are remembered, so that each is said once."""

log = logging.getLogger(__name__)


class Bus(Client):
    """A nats-py client whose interruptions can be listened to. `interruptions`: how many there were. `grant`:
    what we may do, if that is limited. `denied`: what the server didn't let us do since we connected, or
    empty.
    """

    def __init__(self, reach: access.Access, grant: permissions.Grant | None = None) -> None:
        super().__init__()
        self.interruptions = 0
        self.reach, self.grant = reach, grant
        self.denied = ""
        self._listeners: list[Callable[[], None]] = []

    def on_interruption(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` whenever messages may have been missed: after a reconnect, or on overflow.

        Returns a function that ends it.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def interrupted(self) -> None:
        self.interruptions += 1
        for listener in tuple(self._listeners):
            listener()

    def abandon(self) -> None:
        """Closes what an attempt that failed or was broken off has open. One on which TLS hasn't come about
        is forgotten, too: nats-py would wait until it is closed, which asyncio doesn't tell who had it before
        TLS began (seen: a service that met an expired certificate at its start tried once, and never again).
        """
        transport: Any = self._transport
        if transport is not None:
            transport.close()
            if transport._io_writer is transport._bare_io_writer:
                self._transport = None

    @property
    def clustered(self) -> bool:
        """Is it one of several servers, whose replicas may be behind each other?"""
        return bool(self._server_info.get("cluster"))

    @property
    def server_version(self) -> str:
        """Of the server we are connected to, or were last."""
        return str(self._server_info.get("version", ""))

    @property
    def certificate_ends_s(self) -> float | None:
        """Of the server, as it showed it when this connection began, in seconds since 1970. None without TLS,
        or without a connection.
        """
        transport: Any = self._transport
        shown = transport._io_writer.get_extra_info("peercert") if self.is_connected else None
        return float(ssl.cert_time_to_seconds(shown["notAfter"])) if shown else None

    @property
    def api(self) -> str:
        """Prefix of JetStream's API."""
        return self.grant.api if self.grant else permissions.API

    @property
    def ssl_context(self) -> ssl.SSLContext:
        return access.tls_context(self.reach.ca)

    def _connect_command(self) -> bytes:
        """Written once for each connection, after TLS: here is who we are, and nowhere before."""
        if self.reach.ca and not self._server_info.get("tls_required"):
            raise access.Unusable("the server speaks without TLS, and --nats-ca says that it must not")
        if self.reach.nkey:
            key = access.read_key(self.reach.nkey)
            self._public_nkey, self._signature_cb, self._auth_configured = key.public, key.signature, True
        elif self.reach.creds:
            jwt, key = access.read_creds(self.reach.creds)
            self._user_jwt_cb = lambda: bytearray(jwt.encode())
            self._signature_cb, self._auth_configured = key.signature, True
        elif self.reach.token:
            self.options["token"], self._auth_configured = access.read_secret(self.reach.token), True
        else:
            self._present_address()
        return super()._connect_command()

    def _present_address(self) -> None:
        """What this server's own address says of us, and no other's: nats-py leaves %2F and the like as they
        are, and what it was told once it says to each server.
        """
        uri = self._current_server.uri if self._current_server else urllib.parse.urlsplit("")
        user = None if uri.username is None else urllib.parse.unquote(uri.username)
        is_token = user is not None and uri.password is None
        self.options["token"] = user if is_token else None
        self.options["user"] = None if is_token else user
        self.options["password"] = None if uri.password is None else urllib.parse.unquote(uri.password)

    async def _process_err(self, err_msg: str) -> None:
        """nats-py closes the client for good on most errors; we come back."""
        if "permissions violation" in err_msg.lower():
            self.denied = self.denied or err_msg.strip("'")
            await super()._process_err(err_msg)
        else:
            error = nats.errors.Error(f"nats: {err_msg.strip()}")
            await self._error_cb(error)
            await self._process_op_err(error)


async def connect(
    reach: access.Access | str,
    *,
    name: str,
    principal: permissions.Principal | None = None,
    heed: Callable[[str], None] = lambda reason: None,
    **options: Any,
) -> Bus:
    """A connection to the first reachable server. Waits as long as it takes. `principal`: who we are, to a
    bus that asks for credentials. `heed`: hears each trouble, whenever there is one. Raises
    access.Unusable if the address isn't one.
    """
    reach = access.Access(url=reach) if isinstance(reach, str) else reach
    bus = Bus(reach, reach.grant(principal) if principal else None)
    if bus.grant:
        options = {"inbox_prefix": bus.grant.inbox} | options
    if reach.server_name and reach.ca:
        options = {"tls_hostname": reach.server_name} | options
    if reach.token:
        options = {"connect_timeout": ASKED_S} | options
    try:
        await bus.connect(
            servers=reach.servers,
            name=name,
            allow_reconnect=True,
            pending_size=PENDING_BYTES,
            **_callbacks(bus, heed),
            **(PATIENCE | options),
        )
    except asyncio.CancelledError:
        bus.abandon()
        raise
    log.info("bus.connected", extra={"fields": {"server": _server(bus)}})
    return bus


def _callbacks(bus: Bus, heed: Callable[[str], None]) -> dict[str, Any]:
    troubles: set[str] = set()

    async def reconnected() -> None:
        log.info("bus.reconnected", extra={"fields": {"server": _server(bus)}})
        troubles.clear()
        bus.denied = ""
        bus.interrupted()

    async def disconnected() -> None:
        if not bus.is_closed and not bus.is_draining:
            log.warning("bus.disconnected", extra={"fields": {"url": bus.reach.shown}})
            heed("the connection has ended")

    async def failed(error: Exception) -> None:
        if isinstance(error, nats.errors.SlowConsumerError):
            bus.interrupted()
        if not bus.is_connected:
            bus.abandon()
        if getattr(error, "reason", "") == _HUNG_UP:
            return
        reason = access.explain(error)
        heed(reason)
        if reason not in troubles and len(troubles) < TROUBLES and not bus.is_closed:
            troubles.add(reason)
            log.warning("bus.failed", extra={"fields": {"url": bus.reach.shown, "reason": reason}})
        if _is_refusal(error) and not bus.is_connected:
            await asyncio.sleep(REFUSED_S * (1 + random.random()))

    return {"reconnected_cb": reconnected, "disconnected_cb": disconnected, "error_cb": failed}


def _is_refusal(error: Exception) -> bool:
    """Of an attempt, so that waiting here holds up the next one, and nothing else."""
    return (
        isinstance(error, ssl.SSLError | access.Unusable) or "authorization violation" in str(error).lower()
    )


def _server(bus: Bus) -> str:
    """Without the user and the password that may stand before it."""
    return bus.connected_url.netloc.rpartition("@")[2] if bus.connected_url else ""
