"""The watcher's numbers, as metrics."""

from collections.abc import Iterator, Mapping

from ebbgate_bus.runtime import metrics
from ebbgate_watcher.io import tally

CATALOGUE = metrics.Catalogue("ebbgate_watcher")
LEADER = CATALOGUE.gauge("leader", "1 if this watcher publishes, 0 if it stands by")
READY = CATALOGUE.gauge("ready", "1 if every kind is synced, or, standing by, listed")
OBJECTS = CATALOGUE.gauge("objects", "Objects that exist", "kind")
LISTS = CATALOGUE.counter("lists", "Complete lists: the first, and one for each relist", "kind")
WATCH_AGE = CATALOGUE.gauge("watch_age_seconds", "Since the running watch began; 0: none runs", "kind")
EVENTS = CATALOGUE.counter("events", "Events of watches: seen, vanished, refused", "kind", "type")
PUBLISHED = CATALOGUE.counter("published", "Messages stored and acknowledged")
API_WRITES = CATALOGUE.counter(
    "api_writes", "Statuses and Events sent to the API server, by its answer (HTTP)", "what", "code"
)
LAG = CATALOGUE.histogram("lag_seconds", "From seeing an object to the acknowledgement of its fact", "kind")


def collect(
    counts: tally.Tally, objects: Mapping[str, int], *, leading: bool, ready: bool
) -> Iterator[metrics.Measured]:
    """`objects`: how many there are of each kind."""
    kinds = counts.kinds
    yield metrics.one(LEADER, leading)
    yield metrics.one(READY, ready)
    yield metrics.by(OBJECTS, objects)
    yield metrics.by(LISTS, {name: each.lists for name, each in kinds.items()})
    yield metrics.by(WATCH_AGE, {name: each.watch_age_s() for name, each in kinds.items()})
    events = {(name, type_): count for name, each in kinds.items() for type_, count in each.events.items()}
    yield metrics.Measured(EVENTS, events)
    yield metrics.one(PUBLISHED, counts.published)
    yield metrics.Measured(
        API_WRITES, {(what, str(code)): count for (what, code), count in counts.requests.items()}
    )
    yield metrics.by(LAG, {name: each.lags for name, each in kinds.items()})
