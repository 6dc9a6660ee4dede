"""What every service says of itself, whatever it does: its version, and whether it has its bus."""

import importlib.metadata
from collections.abc import Iterator

from ebbgate_bus.runtime import connection, metrics

CATALOGUE = metrics.Catalogue("ebbgate")
BUILD = CATALOGUE.gauge(
    "build_info", "Always 1; which service this is, and its version", "service", "version"
)
CONNECTED = CATALOGUE.gauge("bus_connected", "1 while there is a connection to nats-server")
INTERRUPTIONS = CATALOGUE.counter(
    "bus_interruptions", "How often messages may have been missed, so that streams were read anew"
)


def hindrance(bus: connection.Bus | None) -> str:
    """Why a service can't work for want of its bus, or empty. Who had it stays ready while it is away."""
    if bus is None:
        return "the bus isn't reached yet; the log says why"
    return f"the bus doesn't let us work: {bus.denied}" if bus.denied else ""


def measured(service: str, bus: connection.Bus | None) -> Iterator[metrics.Measured]:
    """`service`: watcher, resolver, programmer, usher. `bus`: None before there was one."""
    version = importlib.metadata.version(f"ebbgate-{service}")
    yield metrics.Measured(BUILD, {(service, version): 1.0})
    yield metrics.one(CONNECTED, bool(bus and bus.is_connected))
    yield metrics.one(INTERRUPTIONS, bus.interruptions if bus else 0)
