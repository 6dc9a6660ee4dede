"""The watcher's numbers as Prometheus reads them. Imported when they are asked for."""

import itertools
from collections.abc import Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from ebbgate_watcher.io import tally


def collect(
    counts: tally.Tally, objects: Mapping[str, int], *, leading: bool, ready: bool
) -> Iterator[Metric]:
    """`objects`: how many there are of each kind."""
    yield _gauge("leader", "1 if this watcher publishes, 0 if it stands by", leading)
    yield _gauge("ready", "1 if every kind is synced, or, standing by, listed", ready)
    yield _by_kind(GaugeMetricFamily, "objects", "Objects that exist", objects)
    lists = {kind: each.lists for kind, each in counts.kinds.items()}
    yield _by_kind(CounterMetricFamily, "lists", "Complete lists: the first, and one for each relist", lists)
    ages = {kind: each.watch_age_s() for kind, each in counts.kinds.items()}
    yield _by_kind(
        GaugeMetricFamily, "watch_age_seconds", "Since the running watch began; 0: none runs", ages
    )
    events = CounterMetricFamily("ebbgate_watcher_events", "Events of watches", labels=("kind", "type"))
    for kind, each in counts.kinds.items():
        for name, value in sorted(each.events.items()):
            events.add_metric((kind, name), value)
    yield events
    published = CounterMetricFamily("ebbgate_watcher_published", "Messages stored and acknowledged")
    published.add_metric((), counts.published)
    yield published
    requests = CounterMetricFamily(
        "ebbgate_watcher_api_writes", "Statuses and Events sent, by the answer", labels=("what", "code")
    )
    for (what, code), value in sorted(counts.requests.items()):
        requests.add_metric((what, str(code)), value)
    yield requests
    yield _lags(counts)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"ebbgate_watcher_{name}", meaning, value=float(value))


def _by_kind(
    family: type[GaugeMetricFamily] | type[CounterMetricFamily],
    name: str,
    meaning: str,
    values: Mapping[str, float],
) -> Metric:
    metric = family(f"ebbgate_watcher_{name}", meaning, labels=("kind",))
    for kind, value in sorted(values.items()):
        metric.add_metric((kind,), value)
    return metric


def _lags(counts: tally.Tally) -> Metric:
    meaning = "From seeing an object to the acknowledgement of its fact"
    metric = HistogramMetricFamily("ebbgate_watcher_lag_seconds", meaning, labels=("kind",))
    bounds = (*map(str, tally.LAG_S), "+Inf")
    for kind, each in counts.kinds.items():
        totals = map(float, itertools.accumulate(each.lags))
        metric.add_metric((kind,), list(zip(bounds, totals, strict=True)), each.lag_sum_s)
    return metric
