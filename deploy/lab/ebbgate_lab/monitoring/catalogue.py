"""All metrics of all services, as they declare them, and the series that Prometheus makes of them."""

from ebbgate_bus.runtime import metrics, vitals
from ebbgate_programmer.io import metrics as of_programmer
from ebbgate_resolver.io import metrics as of_resolver
from ebbgate_usher.io import metrics as of_usher
from ebbgate_watcher.io import metrics as of_watcher

SERVICES: dict[str, metrics.Catalogue] = {
    "Every service": vitals.CATALOGUE,
    "Watcher": of_watcher.CATALOGUE,
    "Resolver": of_resolver.CATALOGUE,
    "Programmer": of_programmer.CATALOGUE,
    "Usher": of_usher.CATALOGUE,
}
OF_PROCESS = {
    "process_cpu_seconds_total": "CPU time",
    "process_resident_memory_bytes": "Memory",
    "process_start_time_seconds": "When it was started",
    "process_open_fds": "Open descriptors",
}
"""Those of the Prometheus client that are worth a look; it has more."""


def series() -> dict[str, frozenset[str]]:
    """Name, as a query has it → its labels."""
    found: dict[str, frozenset[str]] = dict.fromkeys(OF_PROCESS, frozenset())
    for catalogue in SERVICES.values():
        for family in catalogue.families:
            labels = frozenset(family.labels)
            if family.kind != metrics.Kind.HISTOGRAM:
                found[family.name] = labels
                continue
            found |= {f"{family.name}_sum": labels, f"{family.name}_count": labels}
            found[f"{family.name}_bucket"] = labels | {"le"}
    return found
