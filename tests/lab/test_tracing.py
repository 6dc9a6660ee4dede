"""Traces in the running lab, as an OTLP receiver gets them: whole, from the object to kernels and status."""

import asyncio
import copy
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ebbgate_bus.contracts import codec, facts, rows, streams, subjects, trace
from ebbgate_bus.runtime import connection, follower
from ebbgate_lab import lab, namespaces, observer, processes, receiver, sample, sources

PORT = 4318
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "100"}
POLICY = sources.manifests("egress-sample.yaml")[0]
XWING = next(each for each in sources.manifests("pods.yaml") if each["metadata"]["name"] == "xwing")
Spans = list[receiver.Received]


@pytest.mark.timeout(150)
@pytest.mark.parametrize("source", ["directory", "kubernetes"])
async def test_traces_are_whole_from_the_object_to_kernels_and_status(scene: lab.Lab, source: str) -> None:
    if source == "kubernetes":
        scene.source = lab.kubernetes(scene)
    with namespaces.entered(scene.netns("control")):
        taking = receiver.Receiver(lab.CONTROL, PORT)
        scene.environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": taking.endpoint, **QUICK}
        scene.install()
        bus, watching = await scene.observe()
        try:
            of_policy = await _trace_of_the_policy(scene, bus, watching, taking)
            of_pod = await _trace_of_a_pod(scene, bus, watching, taking)
            tree = _told(scene, "table")
            told = json.loads(_told(scene, "json"))
            repaired = await _trace_of_a_repair(scene, taking)
        except TimeoutError as error:
            pytest.fail(f"{error}\n{scene.log_tail()}")
        finally:
            watching.stop()
            await bus.close()
            taking.stop()
    root = of_policy[0]
    assert (root.service, root.name, root.parent) == ("ebbgate-watcher", "receive policy", "")
    for node, least in (("node1", {"lower", "bpf", "nft", "conntrack"}), ("node2", {"lower", "bpf", "nft"})):
        assert least <= _names(of_policy, node), (node, of_policy)
        assert "send ebbgate.v1.status" in _names(of_policy, node)
    assert {"fold", "resolve", "send ebbgate.v1.plan", "send ebbgate.v1.verdict"} <= _names(of_policy)
    assert (repaired[0].instance, repaired[0].parent) == ("node1", "")
    assert {"read", "diff", "nft", "read back", "send ebbgate.v1.status"} <= _names(repaired, "node1")
    assert of_pod[0].name == "receive pod"
    assert {"bpf", "nft"} <= _names(of_pod, "node1")
    _judge_what_is_told(told, tree)
    if source == "kubernetes":
        assert {"normalise policy", "PATCH policy status"} <= _names(of_policy)


async def _trace_of_the_policy(
    scene: lab.Lab, bus: connection.Bus, watching: observer.Observer, taking: receiver.Receiver
) -> Spans:
    await watching.until(
        lambda seen: all(seen.applied(node).all_revision for node in lab.NODES), what="a plan on each node"
    )
    generation = scene.source.apply(POLICY)
    await watching.until(
        lambda seen: sample.programmed(seen.verdict(sample.NAME), generation) and seen.obeyed(*lab.NODES),
        what="the policy programmed",
    )
    patched = scene.source.servers  # a directory has no status to be written
    return await _whole(bus, taking, subjects.fact("policy", sample.NAME), "PATCH" if patched else "")


async def _trace_of_a_pod(
    scene: lab.Lab, bus: connection.Bus, watching: observer.Observer, taking: receiver.Receiver
) -> Spans:
    """One that becomes the policy's by its labels."""
    pod = copy.deepcopy(XWING)
    pod["metadata"]["labels"] |= {"org": "empire", "class": "mediabot"}
    scene.source.apply(pod)
    endpoint = subjects.endpoint("node1", pod["status"]["podIP"])
    await watching.until(
        lambda seen: seen.get(endpoint, rows.Endpoint) is not None and seen.obeyed(*lab.NODES),
        what="the pod covered",
    )
    return await _whole(bus, taking, subjects.fact("pod", "default", pod["metadata"]["name"]))


async def _trace_of_a_repair(scene: lab.Lab, taking: receiver.Receiver) -> Spans:
    """Somebody takes our table away: no event is behind that, and the programmer begins a trace."""
    deleted = processes.run(scene.netns("node1"), "nft", "delete", "table", "ip", "ebbgate")
    assert deleted.returncode == 0, deleted.stderr
    async with asyncio.timeout(20):
        while True:
            found = [span for span in taking.spans if span.name == "repair"]
            if found and "process ebbgate.v1.status" in _names(taking.of(found[0].trace)):
                return sorted(taking.of(found[0].trace), key=lambda span: span.name != "repair")
            await asyncio.sleep(0.05)


async def _whole(bus: connection.Bus, taking: receiver.Receiver, fact: str, last: str = "") -> Spans:
    """The spans of `fact`'s trace, as soon as they have every span that a message on the bus names, and every
    span's parent. `last`: how the name of one begins that no message names.
    """
    (stored,) = await follower.read(bus, streams.FACT, [fact])
    began = trace.of(stored.headers)
    assert isinstance(codec.decode(fact, stored.payload), facts.Policy | facts.Pod)
    assert began is not None
    assert began.sampled
    lacking: set[str] = set()
    try:
        async with asyncio.timeout(20):
            while True:
                spans = taking.of(began.trace)
                ids = {span.span for span in spans}
                lacking = (await _named(bus, began.trace) | {span.parent for span in spans}) - {"", *ids}
                if not lacking and any(span.name.startswith(last) for span in spans):
                    return spans
                await asyncio.sleep(0.05)
    except TimeoutError as error:
        told = "\n".join(map(str, taking.of(began.trace)))
        raise TimeoutError(f"spans never came: {lacking} {last}\n{told}") from error


async def _named(bus: connection.Bus, trace_id: str) -> set[str]:
    """Spans that sent what the streams hold of this trace."""
    stored = [
        message
        for stream in streams.STATE
        for message in await follower.read(bus, stream, list(stream.subjects))
    ]
    contexts = [trace.of(message.headers) for message in stored]
    return {context.span for context in contexts if context and context.trace == trace_id}


def _judge_what_is_told(told: dict[str, Any], tree: str) -> None:
    """The command line tells of the same, without any receiver: who did what after whom."""
    assert (told["about"], told["root"]["who"]) == (f"policy {sample.NAME}", "watcher")
    steps = list(_steps(told["root"]))
    assert {step["who"] for step in steps} == {"watcher", "resolver", *lab.NODES}
    assert f"verdict of {sample.NAME}: ready" in str(steps)
    for node in lab.NODES:
        stages = {stage for step in steps if step["who"] == node for stage in step["stages"]}
        assert {"lower", "bpf", "nft"} <= stages
    assert told["kernel_ns"] > 0
    assert not any(step["took_ns"] < 0 for step in steps)
    (first,) = told["root"]["steps"]
    assert first["who"] == "resolver"
    assert {step["who"] for step in first["steps"]} == set(lab.NODES), tree
    assert tree.splitlines()[0].startswith(f"policy {sample.NAME}  ")
    assert tree.count("resolver  +") == sum(step["who"] == "resolver" for step in steps)


def _steps(step: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield step
    for each in step["steps"]:
        yield from _steps(each)


def _told(scene: lab.Lab, form: str) -> str:
    """What the command line makes of the policy's trace, from the bus alone."""
    command = [sys.executable, "-m", "ebbgate_cli", "trace", sample.NAME, "-o", form, "--nats", scene.url]
    done = processes.run(scene.netns("control"), *command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _names(spans: Spans, instance: str = "") -> set[str]:
    return {span.name for span in spans if not instance or span.instance == instance}
