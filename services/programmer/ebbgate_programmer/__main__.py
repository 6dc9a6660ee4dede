"""The programmer's composition root: `run`, `check`, `doctor`, `clean`.

The network namespace is the one it is started in, the bpf filesystem that of its mount namespace. Stopping
`run`, in whatever way, leaves everything in place; only `clean` takes it out.
"""

import asyncio
import logging
import sys
from collections.abc import Iterable

from ebbgate_bus.contracts.permissions import Principal, Role
from ebbgate_bus.runtime import access, health, logs, service, tracing, vitals
from ebbgate_bus.runtime import metrics as measures
from ebbgate_programmer import loop, settings
from ebbgate_programmer.core import diagnosis
from ebbgate_programmer.io import (
    capabilities,
    examination,
    kernel,
    memory,
    metrics,
    ownership,
    sysctls,
    tally,
)


def main() -> int:
    chosen = settings.parse(sys.argv[1:])
    logs.setup(service="programmer", name=chosen.node)
    sysctls.use(chosen.proc_sys)
    if chosen.command == "doctor":
        return _doctor(chosen)
    lacks = capabilities.missing(chosen.pin_path, chosen.bpf_object)
    if chosen.command == "clean":
        # A node may be cleaned by a version that it has no object for, and a kernel too old never had any.
        lacks = [phrase for phrase in lacks if phrase.startswith(("capability", "the nft"))]
    if lacks:
        print(f"ebbgate-programmer: missing: {'; '.join(lacks)}", file=sys.stderr)
        return 1
    if chosen.command == "run":
        tracing.setup(service="programmer", name=chosen.node, node=chosen.node)
        memory.keep_little()
        service.run(lambda: _run(chosen))
    elif chosen.command == "clean":
        return _clean(chosen)
    else:
        print("ebbgate-programmer: nothing is missing")
    return 0


def _clean(chosen: settings.Settings) -> int:
    claim = ownership.take_soon()
    if claim is None:
        text = "a programmer is at work on this node, and would put all back: stop it first"
        print(f"ebbgate-programmer: {text}", file=sys.stderr)
        return 1
    with claim:
        kernel.Kernel(chosen.pin_path, chosen.bpf_object, attach=chosen.attach).clean()
    return 0


def _doctor(chosen: settings.Settings) -> int:
    """What is missing is a finding among others."""
    made = kernel.Kernel(chosen.pin_path, chosen.bpf_object, attach=chosen.attach, direct=chosen.direct)
    try:
        reach = chosen.reach if chosen.reach.url != access.URL else None
        looking = examination.Examination(made, node=chosen.node, port=chosen.port, reach=reach)
        found = diagnosis.diagnose(looking.read())
    finally:
        made.close()
    print(diagnosis.as_json(found) if chosen.as_json else diagnosis.text(found))
    return int(diagnosis.has_problem(found))


class Report:
    """What is said of us over HTTP: also while we wait for the bus, so that nobody restarts us for that."""

    def __init__(self, node: str) -> None:
        self.counts = tally.Tally(node)
        self.vitals = vitals.Vitals("programmer")
        self.waits = ""

    def unready(self) -> str:
        return self.waits or self.vitals.hindrance() or self.counts.unready

    def wait(self, reason: str) -> None:
        self.waits = reason

    def collect(self) -> Iterable[measures.Measured]:
        yield from self.vitals.measured()
        yield from metrics.collect(self.counts)


async def _run(chosen: settings.Settings) -> None:
    log = logging.getLogger("ebbgate_programmer")
    log.info("programmer.started", extra={"fields": {"node": chosen.node, "pins": str(chosen.pin_path)}})
    report = Report(chosen.node)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(health.serve(health.Health(report.unready, report.collect), chosen.health))
        async with ownership.held(report.wait):
            report.wait("")
            principal = Principal(Role.PROGRAMMER, chosen.node)
            bus = await report.vitals.connect(
                chosen.reach, name=f"programmer-{chosen.node}", principal=principal
            )
            try:
                await loop.Programmer(chosen, bus, report.counts).run()
            finally:
                await bus.close()


if __name__ == "__main__":
    sys.exit(main())
