"""docs/metrics.md: a table of each service's metrics, as it declares them."""

from collections.abc import Iterator

from ebbgate_bus.runtime import metrics
from ebbgate_lab.monitoring import catalogue

_HEAD = """# Metrics

What `/metrics` of each service tells; [observability.md](observability.md) says how to reach it. This page is
made from the declarations in the services (`io/metrics.py`) by `make reference`; a test fails if they aren't
the same. Histograms have the upper bounds {bounds} seconds.
"""
_PROCESS = "Each also has those of its process, as the Prometheus client names them, among them:"


def text() -> str:
    parts = [_HEAD.format(bounds=", ".join(f"{bound:g}" for bound in metrics.LATENCY_S))]
    for service, each in catalogue.SERVICES.items():
        parts.append("\n".join([f"## {service}", "", *_table(each.families), ""]))
    of_process = [f"| `{name}` | {meaning} |" for name, meaning in catalogue.OF_PROCESS.items()]
    parts.append("\n".join([_PROCESS, "", "| metric | |", "|---|---|", *of_process, ""]))
    return "\n".join(parts)


def _table(families: list[metrics.Family]) -> Iterator[str]:
    yield "| metric | type | labels | |"
    yield "|---|---|---|---|"
    for family in families:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        yield f"| `{family.name}` | {family.kind} | {labels} | {family.meaning} |"
