"""`python -m ebbgate_lab.traced FILE`: the trace of the first policy, as the command line and as an OTLP
receiver tell it, written into FILE between its marks.

In a lab of its own, with the receiver on its control host.
"""

import asyncio
import pathlib
import sys
from collections.abc import Iterator

from ebbgate_bus.contracts import streams, subjects, trace
from ebbgate_bus.runtime import connection, follower, logs
from ebbgate_lab import lab, namespaces, observer, processes, receiver, sample, sources

PREFIX = "ebtra-"
PORT = 4318
BEGIN, END = "<!-- trace -->", "<!-- /trace -->"
PATIENCE_S = 20.0


def main(file: pathlib.Path) -> None:
    scene = lab.Lab(prefix=PREFIX)
    logs.setup(service="lab", name="traced", stream=(scene.folder / "lab.log").open("w"))
    try:
        said, spans = asyncio.run(_traced(scene))
    finally:
        scene.down()
    shown = ["```", "$ ebbgate trace egress-sample", said.rstrip(), "```", ""]
    shown += ["and the same one as an OTLP receiver gets it:", "", "```", *_lines(spans), "```"]
    before, rest = file.read_text().split(BEGIN)
    after = rest.split(END)[1]
    file.write_text(f"{before}{BEGIN}\n\n" + "\n".join(shown) + f"\n\n{END}{after}")


async def _traced(scene: lab.Lab) -> tuple[str, list[receiver.Received]]:
    scene.build()
    with namespaces.entered(scene.netns("control")):
        taking = receiver.Receiver(lab.CONTROL, PORT)
        scene.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": taking.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        scene.install()
        bus, watching = await scene.observe()
        try:
            await _apply(scene, watching)
            program = str(pathlib.Path(sys.executable).with_name("ebbgate"))
            said = processes.run(
                scene.netns("control"), program, "trace", sample.NAME, "--nats", scene.url
            ).stdout
            return said, await _received(bus, taking)
        finally:
            watching.stop()
            await bus.close()
            taking.stop()


async def _apply(scene: lab.Lab, watching: observer.Observer) -> None:
    await watching.until(
        lambda seen: all(seen.applied(node).all_revision for node in lab.NODES), what="a plan on each node"
    )
    generation = scene.source.apply(sources.manifests("egress-sample.yaml")[0])
    await watching.until(
        lambda seen: sample.programmed(seen.verdict(sample.NAME), generation) and seen.obeyed(*lab.NODES),
        what="the policy programmed",
    )


async def _received(bus: connection.Bus, taking: receiver.Receiver) -> list[receiver.Received]:
    """As soon as the span that sent the last Verdict is there."""
    (fact,) = await follower.read(bus, streams.FACT, [subjects.fact("policy", sample.NAME)])
    (verdict,) = await follower.read(bus, streams.STATUS, [subjects.verdict(sample.NAME)])
    began, last = trace.of(fact.headers), trace.of(verdict.headers)
    assert began is not None
    assert last is not None
    async with asyncio.timeout(PATIENCE_S):
        while last.span not in {span.span for span in taking.of(began.trace)}:
            await asyncio.sleep(0.05)
    return taking.of(began.trace)


def _lines(spans: list[receiver.Received], parent: str = "", indent: str = "") -> Iterator[str]:
    """A span a line, below the one that it followed from: when it began, how long it took."""
    zero_ns = spans[0].began_ns
    for span in [each for each in spans if each.parent == parent]:
        at_ms, took_ms = (span.began_ns - zero_ns) / 1e6, (span.ended_ns - span.began_ns) / 1e6
        where = span.instance if span.service.endswith("programmer") else span.service.rpartition("-")[2]
        yield f"{at_ms:>7.1f} ms {took_ms:>6.1f} ms  {indent}{where}: {span.name}"
        yield from _lines(spans, span.span, f"{indent}  ")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
