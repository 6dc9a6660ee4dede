"""What every service says of itself, whatever it does: its version, and whether it has its bus."""

import importlib.metadata
from collections.abc import Iterator

from ebbgate_bus.contracts import permissions
from ebbgate_bus.runtime import access, connection, metrics

CATALOGUE = metrics.Catalogue("ebbgate")
BUILD = CATALOGUE.gauge(
    "build_info", "Always 1; which service this is, and its version", "service", "version"
)
CONNECTED = CATALOGUE.gauge("bus_connected", "1 while there is a connection to nats-server")
TOKEN = CATALOGUE.gauge(
    "bus_token", "1 where a token says who this service is, so that an usher must let it in"
)
INTERRUPTIONS = CATALOGUE.counter(
    "bus_interruptions", "How often messages may have been missed, so that streams were read anew"
)
CERTIFICATE = CATALOGUE.gauge(
    "bus_certificate_expiry_timestamp_seconds",
    "When nats-server's certificate ends, seconds since 1970, as shown when the present connection began; "
    "none without TLS",
)


class Vitals:
    """Of one service. `bus`: None before there was one."""

    def __init__(self, service: str) -> None:
        """`service`: watcher, resolver, programmer, usher."""
        self.bus: connection.Bus | None = None
        self._by_token = False
        self._service = service
        self._trouble = "no answer so far"

    async def connect(
        self, reach: access.Access, *, name: str, principal: permissions.Principal | None = None
    ) -> connection.Bus:
        """As `connection.connect`; what goes wrong is said meanwhile."""
        self._by_token = reach.token is not None
        self.bus = await connection.connect(reach, name=name, principal=principal, heed=self._heed)
        return self.bus

    def _heed(self, trouble: str) -> None:
        self._trouble = trouble

    def absence(self) -> str:
        """Why there is no connection, or empty."""
        return "" if self.bus and self.bus.is_connected else f"the bus isn't reached: {self._trouble}"

    def hindrance(self) -> str:
        """Why a service can't work for want of its bus, or empty. Who had it stays ready while it is away."""
        if self.bus is None:
            return self.absence()
        return f"the bus doesn't let us work: {self.bus.denied}" if self.bus.denied else ""

    def measured(self) -> Iterator[metrics.Measured]:
        version = importlib.metadata.version(f"ebbgate-{self._service}")
        yield metrics.Measured(BUILD, {(self._service, version): 1.0})
        yield metrics.one(CONNECTED, bool(self.bus and self.bus.is_connected))
        yield metrics.one(TOKEN, self._by_token)
        yield metrics.one(INTERRUPTIONS, self.bus.interruptions if self.bus else 0)
        ends_s = self.bus.certificate_ends_s if self.bus else None
        yield metrics.Measured(CERTIFICATE, {} if ends_s is None else {(): ends_s})
