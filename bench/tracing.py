"""What tracing costs an event, in this process: off, not sampled, sampled. `python -m bench.tracing`.

An event is what the resolver does for one: a context that goes on with the fact's, headers for what it
publishes, and, where it is sampled, a turn of five spans. The receiver is there and takes them.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from ebbgate_bus.contracts import trace
from ebbgate_bus.runtime import tracing
from ebbgate_lab import receiver
from ebbgate_resolver.core import causes, engine
from ebbgate_resolver.io import spans

EVENTS = 5_000
ROUNDS = 5


def event(context: trace.Context) -> None:
    cause = causes.Cause(context, "ebbgate.v1.fact.pod.default.a", (), 1)
    turn = spans.Turn(cause, (time.time_ns(), time.time_ns()))
    _ = turn.traceparent
    turn.told(engine.Step())
    turn.stored(())
    turn.ended(())


def us_per_event(work: Callable[[], None]) -> float:
    """CPU time of the process, the exporting thread's included; the best of some rounds."""
    found = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(EVENTS):
            work()
        found.append((time.process_time() - began) / EVENTS * 1e6)
    return min(found)


_GROWTH = """
import os, pathlib
import ebbgate_resolver.__main__
from ebbgate_bus.runtime import tracing
resident = lambda: int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
before = resident()
tracing.setup(service="resolver", name="bench")
print((resident() - before) / 1e6)
"""


def memory_mb(endpoint: str) -> float:
    """What a resolver's process grows by when tracing is switched on: the SDK and all it needs."""
    environment = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    said = subprocess.run(
        [sys.executable, "-c", _GROWTH], env=environment, check=True, capture_output=True, text=True
    )
    return float(said.stdout)


def main() -> None:
    table = Table("tracing", "CPU time of an event, or memory")
    parent = trace.Context("a" * 32, "b" * 16, sampled=True)
    table.add_row("off", f"{us_per_event(lambda: event(parent)):.1f} µs")
    taking = receiver.Receiver("127.0.0.1")
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = taking.endpoint
    tracing.setup(service="resolver", name="bench")
    unsampled = trace.Context("a" * 32, "b" * 16)
    table.add_row("on, an event that isn't sampled", f"{us_per_event(lambda: event(unsampled)):.1f} µs")
    sampled = us_per_event(lambda: event(parent))
    table.add_row("on, one that is (the receiver's work included)", f"{sampled:.1f} µs")
    tracing.close()
    table.add_row("on: memory", f"{memory_mb(taking.endpoint):.1f} MB")
    taking.stop()
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
