"""`ebbgate explain`, `simulate` and `policies` asked of a real bus, with a real resolver behind it."""

import asyncio
import io
import itertools
import json
import pathlib
import re
import sys
import tarfile
from collections.abc import Callable
from typing import Any

import msgspec
import yaml
from nats.aio.msg import Msg
from typer.testing import CliRunner, Result

from ebbgate_bus.contracts import codec, facts, reports, rows, streams, subjects
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.contracts.message import Message
from ebbgate_bus.runtime import connection, jetstream, publisher, service, tracing
from ebbgate_cli import __main__ as cli
from ebbgate_cli import lags
from ebbgate_lab import observer, processes

NAT = facts.Interface(
    name="eth0", index=2, addresses=("10.168.60.12/24", "10.168.60.100/24"), default_route=("ipv4",)
)
SPEC = (
    b'{"destinationCIDRs":["0.0.0.0/0"],"egressGateway":{"egressIP":"10.168.60.100","nodeSelector":{}},'
    b'"selectors":[{"podSelector":{}}]}'
)
WORLD: dict[str, Message] = {
    subjects.fact("node", "node1"): facts.Node(name="node1", internal_ips=("10.168.60.11",)),
    subjects.fact("node", "node2"): facts.Node(name="node2", internal_ips=("10.168.60.12",)),
    subjects.fact("nodenetwork", "node2"): facts.NodeNetwork(node="node2", interfaces=(NAT,)),
    subjects.fact("policy", "sample"): facts.Policy(
        name="sample", uid="p1", generation=1, spec=msgspec.Raw(SPEC)
    ),
    subjects.fact("policy", "bad"): facts.Policy(name="bad", uid="p2", generation=1),
    subjects.fact("pod", "default", "a"): facts.Pod(
        namespace="default", name="a", uid="u1", node="node1", ips=("10.244.1.10",), phase="Running"
    ),
    **{subjects.synced(kind): facts.Synced(kind=kind) for kind in facts.KINDS},
}


async def _ask(server: Any, *arguments: str) -> Result:
    """In a thread, as the command has an event loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, cli.app, [*arguments, "--nats", server.url])


async def _settled(watching: observer.Observer, send: publisher.Publisher) -> None:
    """Play node2's programmer until the path is open."""
    prefix = f"{subjects.node_scope('node2')}.egress."
    await watching.until(lambda seen: len(seen.under(prefix)) == 1, what="the egress row")
    slot = next(iter(watching.under(prefix))).rpartition(".")[2]
    applied = reports.Applied(node="node2", slots={slot: "10.168.60.100"})
    await send.publish([Outgoing(subjects.status("node2"), codec.encode(applied))])

    def is_open(seen: observer.Observer) -> bool:
        group = seen.get(subjects.group("p1"), rows.Group)
        return bool(group and group.ipv4 and [path.slot for path in group.ipv4.paths] == [int(slot)])

    await watching.until(is_open, what="the path to open")
    verdict = subjects.verdict("sample")
    await watching.until(
        lambda seen: bool(v := seen.get(verdict, reports.Verdict)) and v.conditions[2].reason == "Ready",
        what="the verdict",
    )


async def test_questions_are_answered_from_the_bus(
    server: Any, bus: connection.Bus, tmp_path: pathlib.Path
) -> None:
    watching, send = observer.Observer(bus), publisher.Publisher(bus)
    await send.start()
    watching.start()
    await send.publish(
        [Outgoing(subject, codec.encode(message), tracing.headers()) for subject, message in WORLD.items()]
    )
    command = [sys.executable, "-m", "ebbgate_resolver", "--nats", server.url, "--name", "r"]
    resolver = processes.Process("r", command, log=tmp_path / "r.log")
    heard = await bus.subscribe(f"{subjects.ROOT}.beat.resolver.>")
    resolver.start()
    try:
        assert _beat(await heard.next_msg(timeout=20)).starting
        await heard.unsubscribe()
        await _settled(watching, send)
        await _check_answers(server, tmp_path)
        await _check_lag(server, bus)
    finally:
        resolver.stop()
        watching.stop()


async def _check_answers(server: Any, folder: pathlib.Path) -> None:
    told = await _ask(server, "explain", "default/a", "198.51.100.7")
    assert told.exit_code == 0
    assert "STEERED, it leaves by node2 as 10.168.60.100" in told.stdout
    assert "node1 has no programmer that ever reported" in told.stdout
    listed = await _ask(server, "policies")
    lines = {line.split()[0]: line.split() for line in listed.stdout.splitlines()}
    assert lines["bad"][1:7] == ["False", "none", "none", "0", "0/0", "Rejected:"]
    assert lines["sample"][1:5] == ["False", "node2", "10.168.60.100", "1"]
    for name in ("sample", "bad"):  # both were there when the resolver came
        assert f"verdict of {name}: " in (await _ask(server, "trace", name)).stdout
    full = await _ask(server, "policies", "sample")
    assert "    node2 (10.168.60.12): 10.168.60.100; 1 of 1 pods" in full.stdout.splitlines()
    assert json.loads((await _ask(server, "policies", "-o", "json")).stdout)[0]["policy"] == "bad"
    wide = (await _ask(server, "policies", "-o", "wide")).stdout.splitlines()
    assert wide[0].split()[-5:] == ["GENERATION", "IN", "FORCE", "NOT", "PROGRAMMED"]
    assert wide[2].endswith("1            1          node1,node2")
    assert yaml.safe_load((await _ask(server, "policies", "sample", "-o", "yaml")).stdout)["uid"] == "p1"
    assert "DRIFT REPAIRED" in (await _ask(server, "nodes", "-o", "wide")).stdout
    assert (await _ask(server, "list", "--node", "node1")).stdout.split()[-4:-3] == ["10.244.1.10"]
    for other in ("nobody", "no name"):
        unknown = await _ask(server, "list", "--node", other)
        said = f"no node {other} is known; there are: node1, node2\n"
        assert (unknown.exit_code, unknown.stdout, unknown.stderr) == (1, "", said)
    unknown = await _ask(server, "policies", "sampel")
    assert (unknown.exit_code, "did you mean sample?" in unknown.stderr) == (1, True)
    overall = await _ask(server, "status")
    assert overall.exit_code == 1  # the watcher is missing, and so are the programmers
    assert re.search(r"^  resolver +1 alive: r-", overall.stdout, re.MULTILINE)
    assert "✗ no watcher is alive" in overall.stdout.splitlines()
    assert "✗ policy bad: Rejected: " in overall.stdout
    troubles = json.loads((await _ask(server, "status", "-o", "json")).stdout)["troubles"]
    assert "node1: no programmer has ever reported" in [each["what"] for each in troubles]
    archive = folder / "report.tar.gz"
    assert (await _ask(server, "bugreport", "--file", str(archive))).exit_code == 0
    _check_report(archive)
    manifest = folder / "policy.json"
    manifest.write_text(
        json.dumps(
            {
                "apiVersion": "cilium.io/v2",
                "kind": "CiliumEgressGatewayPolicy",
                "metadata": {"name": "sample"},
                "spec": json.loads(SPEC) | {"excludedCIDRs": ["20.0.0.0/8"]},
            }
        )
    )
    simulated = await _ask(server, "simulate", str(manifest), "--exit-code")
    assert simulated.exit_code == 3
    assert "10.168.60.100 by node2 (policy sample)   excluded (policy sample)" in simulated.stdout
    assert (await _ask(server, "simulate", "--delete", "policy/bad")).stdout.splitlines()[0] == (
        "No pod changes its egress."
    )


async def _until_beat(bus: connection.Bus, *, holds: Callable[[reports.Beat], bool]) -> None:
    """Until the resolver says so of itself."""
    heard = await bus.subscribe(f"{subjects.ROOT}.beat.resolver.>")
    async with asyncio.timeout(20):
        async for message in heard.messages:
            if message.subject.startswith(subjects.beat("resolver", "r-")) and holds(_beat(message)):
                break
    await heard.unsubscribe()


def _beat(message: Msg) -> reports.Beat:
    return codec.decode_as(reports.Beat, message.subject, message.data)


async def _check_lag(server: Any, bus: connection.Bus) -> None:
    """PLAN takes nothing for a while: the resolver falls behind, also if what changes is overwritten. Another
    never gets ready. What node2 said of itself names no revision.
    """
    await _until_beat(bus, holds=lambda beat: beat.behind_s == 0 and not beat.starting)
    config = streams.api_config(streams.PLAN)
    await jetstream.request(bus, "STREAM.UPDATE.PLAN", config | {"max_msg_size": 1})
    new = service.keep_beating(
        bus, service="resolver", name="new", lag=lambda: service.Lag(0.0, starting=True)
    )
    tasks = [asyncio.create_task(each) for each in (_publish_for_ever(bus), new)]
    try:
        await _until_beat(bus, holds=lambda beat: (beat.behind_s or 0) >= lags.NOTICED_S)
        told = json.loads((await _ask(server, "status", "-o", "json")).stdout)
    finally:
        for task in tasks:
            task.cancel()
        await jetstream.request(bus, "STREAM.UPDATE.PLAN", config)
    late = {each["who"].partition("-")[0]: each for each in told["behind"]}
    assert {who: (each["starting"], each["scopes"]) for who, each in late.items()} == {
        "resolver r": (False, []),
        "resolver new": (True, []),
        "node2": (False, ["all", "node"]),
    }
    assert all(each["for_s"] >= 2 * lags.NOTICED_S for each in late.values())
    alive = next(part["says"] for part in told["parts"] if part["name"] == "resolver")
    assert re.fullmatch(r"3 alive: new, older, r-\d+", alive)
    await _until_beat(bus, holds=lambda beat: beat.behind_s == 0)


async def _publish_for_ever(bus: connection.Bus) -> None:
    """A pod that changes again and again, and beats: of an older version, and one that isn't one."""
    subject = subjects.fact("pod", "default", "a")
    for number in itertools.count():
        changed = msgspec.structs.replace(WORLD[subject], ips=(f"10.244.1.{20 + number % 200}",))
        await bus.request(subject, codec.encode(changed))
        older = b'{"service":"resolver","name":"older","read":{"ebbgate.v1.fact.>":1}}'
        await bus.publish(subjects.beat("resolver", "older"), older)
        odd = b'{"service":"resolver","name":"odd","behind_s":"long"}'
        await bus.publish(subjects.beat("resolver", "odd"), odd)
        await asyncio.sleep(0.2)


def _check_report(archive: pathlib.Path) -> None:
    with tarfile.open(archive) as opened:
        parts = {
            name.partition("/")[2]: (opened.extractfile(name) or io.BytesIO()).read().decode()
            for name in opened.getnames()
        }
    assert {f"streams/{stream.name}.jsonl" for stream in streams.STREAMS} <= parts.keys()
    for stream in ("FACT", "JOURNAL"):
        told = [json.loads(line) for line in parts[f"streams/{stream}.jsonl"].splitlines()]
        assert subjects.fact("pod", "default", "a") in {each["subject"] for each in told}
    assert json.loads(parts["status.json"])["troubles"]
    assert json.loads(parts["version.json"])["ebbgate"]


async def test_a_bus_that_does_not_answer_is_said() -> None:
    simulate = ["simulate", "--delete", "policy/x"]
    for command in (["explain", "a/b", "1.1.1.1"], ["policies"], simulate, ["top"], ["drops"]):
        result = await asyncio.to_thread(
            CliRunner().invoke, cli.app, [*command, "--nats", "nats://127.0.0.1:9"]
        )
        assert result.exit_code == 2
        assert "no answer from NATS at nats://127.0.0.1:9" in result.stderr
