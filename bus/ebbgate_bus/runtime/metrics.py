"""Metrics as values: what a service measures is declared once, with name, labels and meaning, and counted in
plain numbers, whether anybody asks or not.

From the declarations the table in docs/metrics.md is made, and dashboards and alerts are checked against
them. The Prometheus client, which takes 60 ms and 10 MB, turns them into its own form only when it is asked
for (`health`). Names follow Prometheus' conventions: prefix, unit, and `_total` for what only grows.
"""

import bisect
import enum
import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from prometheus_client import Metric

LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histograms of times. A histogram of 13 buckets is enough to see a p99 move."""


class Kind(enum.StrEnum):
    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Family(msgspec.Struct, frozen=True):
    """`name`: as Prometheus shows it."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()


class Histogram:
    """How often values were up to each of LATENCY_S."""

    def __init__(self) -> None:
        self.sum = 0.0
        self._counts = [0] * (len(LATENCY_S) + 1)

    def observe(self, value: float) -> None:
        self._counts[bisect.bisect_left(LATENCY_S, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bound and number of values up to it, as Prometheus wants them."""
        bounds = (*map(str, LATENCY_S), "+Inf")
        return list(zip(bounds, map(float, itertools.accumulate(self._counts)), strict=True))


Labels = tuple[str, ...]
Value = float | Histogram


class Measured(msgspec.Struct, frozen=True):
    """`values`: by the values of the family's labels, as a tuple in their order."""

    family: Family
    values: Mapping[Any, Value]


class Catalogue:
    """All that one service measures, in the order of its table."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.families: list[Family] = []

    def gauge(self, name: str, meaning: str, *labels: str) -> Family:
        return self._declare(name, Kind.GAUGE, meaning, labels)

    def counter(self, name: str, meaning: str, *labels: str) -> Family:
        """`name`: without `_total`."""
        return self._declare(f"{name}_total", Kind.COUNTER, meaning, labels)

    def histogram(self, name: str, meaning: str, *labels: str) -> Family:
        return self._declare(name, Kind.HISTOGRAM, meaning, labels)

    def _declare(self, name: str, kind: Kind, meaning: str, labels: Labels) -> Family:
        family = Family(f"{self._prefix}_{name}", kind, meaning, labels)
        self.families.append(family)
        return family


def one(family: Family, value: Value) -> Measured:
    """Of a family without labels."""
    return Measured(family, {(): value})


def by(family: Family, values: Mapping[str, Value]) -> Measured:
    """Of a family with one label, by its value."""
    return Measured(family, {(name,): value for name, value in values.items()})


def prometheus(measured: Iterable[Measured]) -> Iterable["Metric"]:
    """In the form of the Prometheus client, which is imported here."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    for each in measured:
        family = each.family
        if family.kind == Kind.HISTOGRAM:
            histogram = HistogramMetricFamily(family.name, family.meaning, labels=family.labels)
            for labels, value in sorted(each.values.items()):
                assert isinstance(value, Histogram)
                histogram.add_metric(labels, value.buckets(), value.sum)
            yield histogram
            continue
        form = GaugeMetricFamily if family.kind == Kind.GAUGE else CounterMetricFamily
        metric = form(family.name, family.meaning, labels=family.labels)
        for labels, value in sorted(each.values.items()):
            assert not isinstance(value, Histogram)
            metric.add_metric(labels, float(value))
        yield metric
