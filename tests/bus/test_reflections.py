"""NATS sends an answer wherever the asker says, and checks nothing: what a node can make of that.

In one account everything: the first test shows it, so that nobody takes the accounts away as needless. With
accounts such an answer stays among the nodes, where no stream listens and followers see what it is.
"""

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator

import pytest

from ebbgate_bus.contracts import accounts, permissions, rows, streams, subjects
from ebbgate_bus.contracts.codec import encode
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.runtime import connection, follower, jetstream, publisher
from ebbgate_lab import processes

from . import secured
from .secured import NODE1, NODE2, READER, RESOLVER
from .test_permissions import WITHIN_S

OWN = subjects.status("node-1")
FORGED = encode(rows.Commit(epoch=9, revision=9, count=0, digest="0" * 16))
VICTIMS = (
    subjects.status("node-2"),
    subjects.WRITER,
    subjects.FACT_WRITER,
    subjects.peer("evil"),
    subjects.commit(subjects.node_scope("node-2")),
    "$JS.API.STREAM.DELETE.PLAN",
    "$JS.API.STREAM.PURGE.PLAN",
    f"{permissions.FOREIGN_API}.CONSUMER.DELETE.PLAN.node-2-own",
    "$SYS.REQ.USER.AUTH",
)
ROWS = (subjects.peer("node-1"), subjects.endpoint("node-1", "10.0.0.1"))
"""What node-1 may read, and so may have delivered."""


@pytest.fixture
async def server(tmp_path: pathlib.Path) -> AsyncIterator[secured.Secured]:
    server = secured.Secured(tmp_path)
    server.start()
    bus = await server.connect(RESOLVER)
    await asyncio.wait_for(jetstream.ensure_streams(bus), WITHIN_S)
    pub = publisher.Publisher(bus)
    await pub.start()
    await pub.publish([Outgoing(subject, b"{}") for subject in ROWS])
    await bus.close()
    yield server
    server.process.kill()


async def _reflect(node: connection.Bus, api: str, subject: str) -> None:
    """Have all that a node may be answered be answered under `subject`."""
    pub = publisher.Publisher(node)
    await pub.start()
    headers = {"Nats-Subject": subjects.stored(subject), "Nats-Sequence": "999999", "Nats-Stream": "PLAN"}
    await asyncio.wait_for(pub.publish([Outgoing(OWN, FORGED, headers)]), WITHIN_S)
    await node.publish(OWN, FORGED, reply=subject, headers=headers)
    for filter_, name in permissions.grant(NODE1).consumers.items():
        operation = f"{api}.CONSUMER.CREATE.PLAN.{name}.{filter_}"
        await node.publish(operation, b"{}", reply=subject)
        config = {"name": name, "deliver_subject": subject, "filter_subject": filter_, "ack_policy": "none"}
        body = encode_body({"stream_name": "PLAN", "action": "create", "config": config})
        with contextlib.suppress(TimeoutError):
            await node.request(operation, body, timeout=1)
    await node.publish(f"{api}.DIRECT.GET.STATUS.{OWN}", b"", reply=subject)
    await node.flush()


def encode_body(body: object) -> bytes:
    return jetstream.json.dumps(body).encode()


async def _everything(bus: connection.Bus) -> dict[str, bytes]:
    found = [each for stream in streams.STATE for each in await follower.read(bus, stream, ["ebbgate.v1.>"])]
    return {message.subject: message.payload for message in found}


async def test_in_one_account_a_node_could_write_anything(tmp_path: pathlib.Path) -> None:
    granted = permissions.grant(NODE1)
    limits = accounts.limits(granted)
    publish = [subject.replace(permissions.FOREIGN_API, permissions.API) for subject in granted.publish]
    user = {"user": "node", "password": "x", "permissions": limits | {"publish": publish}}
    users = jetstream.json.dumps([{"user": "all", "password": "x"}, user])
    security, port = f"authorization {{ users: {users} }}\n", secured.free_port()
    process = processes.nats_server(tmp_path, host="127.0.0.1", port=port, security=security)
    process.start()
    try:
        processes.until_listening("127.0.0.1", port)
        bus = await connection.connect(f"nats://all:x@127.0.0.1:{port}", name="all")
        await asyncio.wait_for(jetstream.ensure_streams(bus), WITHIN_S)
        url, inbox = f"nats://node:x@127.0.0.1:{port}", granted.inbox
        node = await connection.connect(url, name="node", inbox_prefix=inbox)
        await _reflect(node, permissions.API, subjects.peer("evil"))
        assert (await _everything(bus))[subjects.peer("evil")] == FORGED
        await node.close()
        await bus.close()
    finally:
        process.kill()


@pytest.mark.parametrize("victim", VICTIMS)
async def test_with_accounts_no_answer_is_stored(server: secured.Secured, victim: str) -> None:
    node, resolver = await server.connect(NODE1), await server.connect(RESOLVER)
    await _reflect(node, permissions.FOREIGN_API, victim)
    assert sorted(await _everything(resolver)) == sorted([OWN, *ROWS])
    await node.close()
    await resolver.close()


async def test_an_answer_that_looks_like_anothers_row_is_not_believed(server: secured.Secured) -> None:
    node, other, resolver = [await server.connect(each) for each in (NODE1, NODE2, RESOLVER)]
    pub = publisher.Publisher(resolver)
    await pub.start()
    scope = subjects.node_scope("node-2")
    heard = 0

    async def count(_: object) -> None:
        nonlocal heard
        heard += 1

    filters = [f"{subjects.ALL_SCOPE}.>", f"{scope}.>"]
    following = follower.Follower(other, streams.PLAN, filters).batches()
    async with asyncio.timeout(WITHIN_S), contextlib.aclosing(following) as batches:
        assert [message.subject for message in (await anext(batches)).messages] == [ROWS[0]]
        await other.subscribe(subjects.live(f"{scope}.>"), cb=count)
        await other.flush()
        await _reflect(node, permissions.FOREIGN_API, subjects.live(subjects.commit(scope)))
        real = subjects.endpoint("node-2", "10.0.0.1")
        await pub.publish([Outgoing(real, b"{}")])
        assert [message.subject for message in (await anext(batches)).messages] == [real]
    assert heard > 1, "the test's own forgeries didn't arrive, and it showed nothing"
    for bus in (node, other, resolver):
        await bus.close()


async def test_a_reader_pulls_nothing_from_what_is_pushed_to_a_node(server: secured.Secured) -> None:
    """Consumers that can be pulled are readers' own: ours have names that everybody knows."""
    node, reader = await server.connect(NODE1), await server.connect(READER)
    name, filter_ = "node-1-all", f"{subjects.ALL_SCOPE}.>"
    heard = await node.subscribe(inbox := node.new_inbox())
    config = {"name": name, "deliver_subject": inbox, "filter_subject": filter_, "ack_policy": "none"}
    body = {"stream_name": "PLAN", "action": "create", "config": config}
    await jetstream.request(node, f"CONSUMER.CREATE.PLAN.{name}.{filter_}", body)
    assert (await heard.next_msg(WITHIN_S)).subject == subjects.peer("node-1")
    refused = await reader.request(
        f"{permissions.FOREIGN_API}.CONSUMER.MSG.NEXT.PLAN.{name}", b'{"batch": 1}'
    )
    assert refused.headers is not None
    assert (refused.headers["Status"], refused.headers["Description"]) == ("409", "Consumer is push based")
    await node.close()
    await reader.close()
