"""Each principal of the table on the real server: what it needs works, and all the rest is refused."""

import asyncio
import contextlib
import pathlib
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import nats.errors
import pytest
from nats.aio.msg import Msg

from ebbgate_bus.contracts import codec, facts, permissions, reports, rows, streams, subjects
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.contracts.message import Message
from ebbgate_bus.runtime import access, connection, follower, jetstream, publisher, revision, tracing
from ebbgate_usher.io import making, stores

from . import cluster, secured
from .secured import NODE1, NODE2, READER, RESOLVER, WATCHER

WITHIN_S = 10.0
ROOT, LIVE = subjects.ROOT, subjects.LIVE
OWN, OTHERS = subjects.node_scope("node-1"), subjects.node_scope("node-2")
API = permissions.FOREIGN_API


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[secured.Secured]:
    server = secured.Secured(tmp_path_factory.mktemp("secured"))
    server.start()
    yield server
    server.process.kill()


class World:
    """Everybody's connection."""

    def __init__(self, server: secured.Secured) -> None:
        self._server = server
        self.buses: dict[permissions.Principal, connection.Bus] = {}
        self.publishers: dict[permissions.Principal, publisher.Publisher] = {}

    async def start(self) -> None:
        for principal in secured.EVERYBODY:
            bus = self.buses[principal] = await self._server.connect(principal)
            pub = self.publishers[principal] = publisher.Publisher(bus)
            await pub.start()
        await asyncio.wait_for(jetstream.ensure_streams(self.buses[RESOLVER]), WITHIN_S)
        await self.say(RESOLVER, {f"{OWN}.commit": COMMIT, f"{OTHERS}.commit": COMMIT})

    async def say(self, principal: permissions.Principal, messages: dict[str, Message]) -> None:
        outgoing = [Outgoing(s, codec.encode(m), tracing.headers()) for s, m in messages.items()]
        await asyncio.wait_for(self.publishers[principal].publish(outgoing), WITHIN_S)

    async def read(
        self, principal: permissions.Principal, stream: streams.Stream, *filters: str
    ) -> list[str]:
        found = await asyncio.wait_for(follower.read(self.buses[principal], stream, filters), WITHIN_S)
        return [message.subject for message in found]

    async def close(self) -> None:
        for bus in self.buses.values():
            await bus.close()


COMMIT = rows.Commit(epoch=1, revision=1, count=0, digest="0" * 16)


@pytest.fixture
async def world(server: secured.Secured) -> AsyncIterator[World]:
    world = World(server)
    try:
        await world.start()
        yield world
    finally:
        await world.close()


async def test_watcher_writes_facts_and_reads_what_nodes_say(world: World) -> None:
    claim = await revision.claim(world.buses[WATCHER], streams.FACT, subjects.FACT_WRITER)
    fact = Outgoing(subjects.fact("node", "node-1"), codec.encode(facts.Node(name="node-1")))
    await revision.publish_alone(
        world.buses[WATCHER], fact, writer=subjects.FACT_WRITER, expected_sequence=claim.sequence
    )
    filters = [f"{ROOT}.fact.node.>", subjects.FACT_WRITER]
    found = await follower.read(world.buses[WATCHER], streams.FACT, filters, up_to=claim.sequence)
    assert {message.subject for message in found} == {fact.subject, subjects.FACT_WRITER}
    await asyncio.wait_for(jetstream.ensure_streams(world.buses[WATCHER]), WITHIN_S)


async def test_resolver_claims_plan_and_writes_a_batch(world: World) -> None:
    bus = world.buses[RESOLVER]
    claim = await revision.claim(bus, streams.PLAN, subjects.WRITER)
    writer = codec.encode(rows.Writer(epoch=claim.epoch, revision=claim.revision + 1))
    batch = [
        Outgoing(subjects.peer("node-1"), codec.encode(rows.Peer(addresses=("10.0.0.1",)))),
        Outgoing(subjects.WRITER, writer),
    ]
    await revision.publish(bus, batch, expected_sequence=claim.sequence)
    await world.say(RESOLVER, {subjects.verdict("p"): reports.Verdict(policy="p", uid="u")})
    assert subjects.peer("node-1") in await world.read(RESOLVER, streams.PLAN, f"{ROOT}.plan.>")


async def test_programmer_follows_its_plan_and_reports(world: World) -> None:
    bus = world.buses[NODE1]
    many = {subjects.endpoint("node-1", f"10.1.{n // 250}.{n % 250}"): _endpoint(n) for n in range(6000)}
    await world.say(RESOLVER, many)
    following = follower.Follower(bus, streams.PLAN, [f"{subjects.ALL_SCOPE}.>", f"{OWN}.>"]).batches()
    async with asyncio.timeout(WITHIN_S), contextlib.aclosing(following) as batches:
        first = await anext(batches)
        assert {message.subject for message in first.messages} >= set(many)
        assert all(message.subject.startswith((OWN, subjects.ALL_SCOPE)) for message in first.messages)
        await world.say(RESOLVER, {f"{OTHERS}.commit": COMMIT, f"{OWN}.commit": COMMIT})
        assert [message.subject for message in (await anext(batches)).messages] == [f"{OWN}.commit"]
    await world.say(NODE1, OWN_REPORTS)
    assert await world.read(NODE1, streams.STATUS, subjects.status("node-1")) == [subjects.status("node-1")]
    network = subjects.fact("nodenetwork", "node-1")
    assert await world.read(NODE1, streams.FACT, network) == [network]
    assert not bus.denied


async def test_programmer_reads_nothing_where_nothing_is(world: World) -> None:
    assert await world.read(NODE2, streams.STATUS, subjects.status("node-2")) == []


async def test_programmer_hears_when_its_status_is_removed(world: World) -> None:
    await world.say(NODE1, OWN_REPORTS)
    following = follower.Follower(world.buses[NODE1], streams.STATUS, [subjects.status("node-1")]).batches()
    async with asyncio.timeout(WITHIN_S), contextlib.aclosing(following) as batches:
        assert (await anext(batches)).messages[0].payload
        await world.publishers[WATCHER].publish([Outgoing(subjects.status("node-1"), b"")])
        assert not (await anext(batches)).messages[0].payload


async def test_beats_and_drops_of_a_node_are_heard(world: World) -> None:
    heard: list[str] = []

    async def take(message: Msg) -> None:
        heard.append(message.subject)

    for who, subject in ((READER, f"{ROOT}.beat.>"), (RESOLVER, f"{ROOT}.beat.programmer.>")):
        await world.buses[who].subscribe(subject, cb=take)
        await world.buses[who].flush()
    await world.buses[READER].subscribe(f"{ROOT}.drop.*", cb=take)
    await world.buses[READER].flush()
    wanted = [subjects.beat("programmer", "node-1")] * 2 + [subjects.dropped("node-1")]
    await world.buses[NODE1].publish(subjects.beat("programmer", "node-1"), b"{}")
    await world.buses[NODE1].publish(subjects.dropped("node-1"), b"{}")
    for service, who in (("watcher", WATCHER), ("resolver", RESOLVER)):
        wanted.append(subjects.beat(service, "a"))
        await world.buses[who].publish(wanted[-1], b"{}")
    async with asyncio.timeout(WITHIN_S):
        while sorted(heard) != sorted(wanted):  # each once for each who listens
            await asyncio.sleep(0.01)


async def test_reader_reads_everything(world: World) -> None:
    await world.say(NODE1, OWN_REPORTS)
    for stream in streams.STATE:
        assert await world.read(READER, stream, f"{ROOT}.>")
    assert not world.buses[READER].denied


@pytest.mark.parametrize(
    "command",
    [["status"], ["nodes"], ["tap", "--since", "1h", "--count", "1", "--policy", "p"], ["trace", "p"]],
)
async def test_the_command_line_works_for_a_reader(
    world: World, server: secured.Secured, command: list[str]
) -> None:
    await world.say(NODE1, OWN_REPORTS)
    policy = codec.encode(facts.Policy(name="p", uid="p1", generation=1))
    event = Outgoing(subjects.fact("policy", "p"), policy, tracing.headers())
    await world.publishers[WATCHER].publish([event])
    arguments = [sys.executable, "-m", "ebbgate_cli", "--nats", server.url, *command]
    process = await asyncio.create_subprocess_exec(
        *(*arguments, "--nats-nkey", str(server.seed_path(READER))),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0 or command == ["status"], errors.decode()  # nobody beats: status says so
    assert out
    assert b"no answer" not in errors


def _endpoint(number: int) -> rows.Endpoint:
    return rows.Endpoint(ip="10.0.0.1", set="s", bucket=number % 64, pod="default/" + "x" * 200)


OWN_REPORTS: dict[str, Message] = {
    subjects.status("node-1"): reports.Applied(node="node-1"),
    subjects.stats("node-1"): reports.Stats(node="node-1"),
    subjects.fact("nodenetwork", "node-1"): facts.NodeNetwork(node="node-1"),
}

# What is refused, by whom. A node first: each way to another's rows, each thing that is another's to say.
HEARING = [
    (NODE1, f"{LIVE}.plan.node.node-2.>"),
    (NODE1, f"{LIVE}.plan.node.>"),
    (NODE1, f"{LIVE}.plan.*.*.commit"),
    (NODE1, f"{LIVE}.>"),
    (NODE1, ">"),
    (NODE1, f"{LIVE}.status.node-2"),
    (NODE1, f"{LIVE}.fact.pod.>"),
    (NODE1, f"{ROOT}.plan.>"),
    (NODE1, "_INBOX.>"),
    (NODE1, "_INBOX.node.node-2.>"),
    (NODE1, f"{ROOT}.beat.>"),
    (READER, "_INBOX.>"),
    (READER, f"{ROOT}.plan.>"),
    (WATCHER, "_INBOX.resolver.>"),
    (WATCHER, f"{LIVE}.plan.>"),
    (RESOLVER, "_INBOX.watcher.>"),
]
SAYING = [
    *(
        (NODE1, subject)
        for subject in (
            subjects.status("node-2"),
            subjects.stats("node-2"),
            subjects.dropped("node-2"),
            subjects.beat("programmer", "node-2"),
            subjects.beat("resolver", "node-1"),
            subjects.fact("nodenetwork", "node-2"),
            subjects.fact("pod", "default", "a"),
            subjects.synced("pod"),
            subjects.FACT_WRITER,
            subjects.WRITER,
            f"{OWN}.commit",
            subjects.peer("node-1"),
            subjects.verdict("p"),
            subjects.live(f"{OTHERS}.commit"),
            subjects.live(f"{OWN}.commit"),
            "_INBOX.node.node-2.x",
            f"{API}.CONSUMER.CREATE.PLAN",
            f"{API}.CONSUMER.CREATE.PLAN.mine",
            f"{API}.CONSUMER.CREATE.PLAN.mine.{OWN}.>",
            f"{API}.CONSUMER.CREATE.PLAN.node-2-own.{OWN}.>",
            f"{API}.CONSUMER.CREATE.PLAN.node-1-own.{OTHERS}.>",
            f"{API}.CONSUMER.CREATE.PLAN.node-1-own.{ROOT}.plan.node.>",
            f"{API}.CONSUMER.CREATE.STATUS.node-1-own.{ROOT}.status.node-1",
            f"{API}.CONSUMER.DELETE.PLAN.node-2-own",
            f"{API}.CONSUMER.DURABLE.CREATE.PLAN.node-1-own",
            f"{API}.CONSUMER.MSG.NEXT.PLAN.node-2-own",
            f"{API}.CONSUMER.NAMES.PLAN",
            f"{API}.DIRECT.GET.PLAN",
            f"{API}.DIRECT.GET.PLAN.{OTHERS}.commit",
            f"{API}.DIRECT.GET.PLAN.{OWN}.endpoint.10_0_0_1",
            f"{API}.DIRECT.GET.STATUS",
            f"{API}.DIRECT.GET.STATUS.{ROOT}.status.node-2",
            f"{API}.DIRECT.GET.STATUS.{ROOT}.status.*",
            f"{API}.STREAM.MSG.GET.PLAN",
            f"{API}.STREAM.PURGE.PLAN",
            f"{API}.STREAM.DELETE.PLAN",
            f"{API}.STREAM.INFO.PLAN",
            f"{API}.STREAM.UPDATE.PLAN",
            f"{API}.STREAM.CREATE.MINE",
            "$JS.API.STREAM.NAMES",
            "$JS.API.DIRECT.GET.PLAN",
            "$SYS.REQ.ACCOUNT.PING.CONNZ",
        )
    ),
    (READER, subjects.WRITER),
    (READER, subjects.status("node-1")),
    (READER, subjects.fact("pod", "default", "a")),
    (READER, f"{API}.STREAM.DELETE.PLAN"),
    (READER, f"{API}.STREAM.PURGE.PLAN"),
    (READER, f"{API}.CONSUMER.DELETE.PLAN.node-1-own"),
    (READER, f"{API}.DIRECT.GET.PLAN"),
    (WATCHER, subjects.WRITER),
    (WATCHER, subjects.verdict("p")),
    (WATCHER, subjects.beat("resolver", "x")),
    (WATCHER, "$JS.API.STREAM.DELETE.FACT"),
    (WATCHER, "$JS.API.STREAM.PURGE.FACT"),
    (RESOLVER, subjects.fact("pod", "default", "a")),
    (RESOLVER, subjects.FACT_WRITER),
    (RESOLVER, subjects.status("node-1")),
    (RESOLVER, "$JS.API.STREAM.DELETE.PLAN"),
]


async def _until_denied(bus: connection.Bus, subject: str) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not bus.denied:
            await asyncio.sleep(0.005)
    assert f'"{subject}"'.lower() in bus.denied.lower(), bus.denied
    bus.denied = ""


async def test_what_isnt_anybodys_to_hear_is_refused(world: World) -> None:
    for principal, subject in HEARING:
        await world.buses[principal].subscribe(subject)
        await world.buses[principal].flush()
        await _until_denied(world.buses[principal], subject)


async def test_what_isnt_anybodys_to_say_is_refused(world: World) -> None:
    for principal, subject in SAYING:
        await world.buses[principal].publish(subject, b"{}")
        await world.buses[principal].flush()
        await _until_denied(world.buses[principal], subject)


@pytest.mark.parametrize(
    "config",
    [
        {"filter_subject": f"{OTHERS}.>"},
        {"filter_subjects": [f"{OWN}.>", f"{OTHERS}.>"]},
        {"filter_subjects": [f"{OTHERS}.>"]},
        {},
        {"filter_subject": f"{OWN}.>", "durable_name": "node-2-own"},
    ],
    ids=str,
)
async def test_a_body_that_asks_for_more_than_its_subject_is_refused(
    world: World, config: dict[str, Any]
) -> None:
    bus = world.buses[NODE1]
    inbox = bus.new_inbox()
    body = {"stream_name": "PLAN", "action": "create"}
    body["config"] = {"name": "node-1-own", "deliver_subject": inbox, "ack_policy": "none"} | config  # type: ignore[assignment]
    with pytest.raises(jetstream.ApiError):
        await jetstream.request(bus, f"CONSUMER.CREATE.PLAN.node-1-own.{OWN}.>", body)


async def test_a_consumers_name_is_that_of_its_subject(world: World) -> None:
    bus = world.buses[NODE1]
    config = {"name": "node-2-own", "deliver_subject": bus.new_inbox(), "filter_subject": f"{OWN}.>"}
    body = {"stream_name": "PLAN", "action": "create", "config": config}
    made = await jetstream.request(bus, f"CONSUMER.CREATE.PLAN.node-1-own.{OWN}.>", body)
    assert made["name"] == "node-1-own"
    await jetstream.request(bus, "CONSUMER.DELETE.PLAN.node-1-own", {})


async def test_only_the_first_violation_is_kept_and_a_denied_request_ends(world: World) -> None:
    bus = world.buses[NODE1]
    with pytest.raises(nats.errors.TimeoutError):
        await bus.request(f"{API}.STREAM.INFO.PLAN", timeout=0.2)
    await bus.publish(subjects.WRITER, b"")
    await bus.flush()
    assert "stream.info.plan" in bus.denied  # nats-py has it in lower case


async def test_a_node_works_on_three_servers_while_their_leader_is_killed(tmp_path: pathlib.Path) -> None:
    """With TLS for clients and between the servers. The node's consumers have one name each."""
    wish = making.Wish(names=("127.0.0.1",), callout=False, nodes=("node-1",))
    await making.make(stores.Folder(tmp_path), wish, time.time())
    files = f'cert_file: "{tmp_path}/server/tls.crt", key_file: "{tmp_path}/server/tls.key"'
    among = f'tls {{ {files}, ca_file: "{tmp_path}/server/ca.crt", verify: true }}'
    security = f'tls {{ {files} }}\ninclude "server/accounts.conf"\n'
    servers = cluster.Cluster(tmp_path, security=security, routes=among)
    buses = {}
    try:
        servers.start()
        for each in (RESOLVER, NODE1):
            key = tmp_path / "users" / f"{making.file_name(each)}.nk"
            reach = access.Access(url=servers.url, ca=tmp_path / "ca" / "ca.crt", nkey=key)
            buses[each] = await connection.connect(reach, name=each.role, principal=each)
        await _work_under_kill(servers, buses[RESOLVER], buses[NODE1])
    finally:
        for bus in buses.values():
            await bus.close()
        servers.stop()


async def _work_under_kill(
    servers: cluster.Cluster, resolving: connection.Bus, programming: connection.Bus
) -> None:
    await asyncio.wait_for(jetstream.ensure_streams(resolving, replicas=cluster.SERVERS), 60)
    resolver, node = publisher.Publisher(resolving), publisher.Publisher(programming)
    await resolver.start()
    await node.start()
    for round_ in range(3):
        message = Outgoing(subjects.endpoint("node-1", f"10.0.0.{round_}"), codec.encode(_endpoint(round_)))
        await asyncio.wait_for(resolver.publish([message]), 60)
        status = Outgoing(subjects.status("node-1"), codec.encode(reports.Applied(node="node-1")))
        await asyncio.wait_for(node.publish([status]), 60)
        async with asyncio.timeout(60):
            while len(await follower.read(programming, streams.PLAN, [f"{OWN}.>"])) <= round_:
                pass  # a replica may be behind, and a node can't ask the leader
        if round_ == 1:
            servers.kill()
    servers.start()
