"""Tracing as a service switches it on, or doesn't: what the environment says, and what it costs when off."""

import json
import subprocess
import sys
from typing import Any

import pytest

from ebbgate_bus.contracts import trace
from ebbgate_bus.runtime import tracing

IMPORTS = """
import json, sys
from ebbgate_bus.contracts import trace
from ebbgate_bus.runtime import tracing
import ebbgate_resolver.__main__, ebbgate_programmer.__main__, ebbgate_watcher.__main__

tracing.setup(service="resolver", name="r1", environment=json.loads(sys.argv[1]))
root = tracing.root()
child = tracing.child(root)
tracing.record(tracing.Span(name="work", context=child, parent=root.span, began_ns=1, ended_ns=2))
loaded = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({"loaded": loaded, "sampled": root.sampled}))
tracing.close()
"""
OF_TRACING = {"opentelemetry", "google", "requests"}


def run(environment: dict[str, str]) -> tuple[dict[str, Any], str]:
    """What a process with all three services loaded says, and its log."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, json.dumps(environment)],
        check=True,
        capture_output=True,
        text=True,
        env=environment | {"PATH": ""},
    )
    said: dict[str, Any] = json.loads(done.stdout)
    return said, done.stderr


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_who_is_not_asked_to_trace_loads_nothing_for_it(environment: dict[str, str]) -> None:
    said, log = run(environment)
    assert OF_TRACING.isdisjoint(said["loaded"])
    assert not said["sampled"]
    assert ("tracing.refused" in log) == ("OTEL_EXPORTER_OTLP_PROTOCOL" in environment)


@pytest.mark.parametrize(
    ("sampler", "sampled"),
    [({}, True), ({"OTEL_TRACES_SAMPLER": "always_off"}, False)],
)
def test_who_is_asked_samples_as_the_environment_says(sampler: dict[str, str], sampled: bool) -> None:
    said, _ = run({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"} | sampler)
    assert said["loaded"].count("opentelemetry") == 1
    assert said["sampled"] == sampled


def test_a_child_goes_on_with_its_parents_trace_and_sampling() -> None:
    parent = trace.Context("a" * 32, "b" * 16, sampled=True)
    child = tracing.child(parent)
    assert (child.trace, child.sampled) == (parent.trace, True)
    assert child.span != parent.span
    assert tracing.child(None).trace != tracing.child(None).trace
    assert not tracing.recorded(child)
