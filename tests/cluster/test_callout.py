"""Who is who by tokens: the real nats-server asks the usher, which asks the real API server."""

import asyncio
import contextlib
import json
import pathlib
import socket
import sys
import time
from collections.abc import AsyncIterator

import pytest

from ebbgate_bus.contracts import codec, envelope, reports, rows, streams, subjects
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.contracts.permissions import Principal, Role
from ebbgate_bus.runtime import access, connection, follower, jetstream, publisher
from ebbgate_lab import apiserver, processes
from ebbgate_usher.io import making, stores

from .callout import NAMESPACE, Hall
from .conftest import WITHIN_S, events, until_logged

EXAMPLE = pathlib.Path(__file__).parents[2] / "docs/examples/listen.py"
WATCHER, RESOLVER, READER = (Principal(role) for role in (Role.WATCHER, Role.RESOLVER, Role.READER))
NODE1, NODE2 = Principal(Role.PROGRAMMER, "node-1"), Principal(Role.PROGRAMMER, "node-2")


@pytest.fixture
async def hall(tmp_path: pathlib.Path, api: apiserver.ApiServer) -> AsyncIterator[Hall]:
    hall = Hall(tmp_path, api)
    try:
        await hall.start()
        await until_logged(hall.ushers[0], "usher.ready")
        yield hall
    finally:
        hall.stop()


async def denied(bus: connection.Bus, subject: str) -> None:
    await bus.subscribe(subject)
    async with asyncio.timeout(WITHIN_S):
        while not bus.denied:
            await bus.flush()
    assert subject.lower() in bus.denied  # nats-py has it in lower case
    bus.denied = ""


async def refused(reach: access.Access, usher_log: Hall, reason: str) -> None:
    """The client hears that it isn't let in, and the usher's log says why."""
    said: list[str] = []
    connecting = asyncio.ensure_future(connection.connect(reach, name="refused", heed=said.append))
    lines = await until_logged(usher_log.ushers[0], "connection.rejected")
    assert reason in str(lines[-1]["reason"])
    async with asyncio.timeout(WITHIN_S):
        while not said:
            await asyncio.sleep(0.01)
    assert "Authorization Violation" in said[0]
    connecting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await connecting


async def test_everybody_works_by_its_service_account_and_a_node_by_its_pod(hall: Hall) -> None:
    resolver = await hall.connect(hall.token("ebbgate-resolver"), RESOLVER)
    await asyncio.wait_for(jetstream.ensure_streams(resolver), WITHIN_S)
    node = await hall.connect(hall.token("ebbgate-programmer", node="node-1"), NODE1)
    pub = publisher.Publisher(node)
    await pub.start()
    applied = codec.encode(reports.Applied(node="node-1"))
    await asyncio.wait_for(pub.publish([Outgoing(subjects.status("node-1"), applied)]), WITHIN_S)
    assert await follower.read(node, streams.PLAN, [f"{subjects.node_scope('node-1')}.>"]) == []
    reader = await hall.connect(hall.token("ebbgate-reader"), READER)
    assert await follower.read(reader, streams.STATUS, [f"{subjects.ROOT}.status.>"])
    watcher = await hall.connect(hall.token("ebbgate-watcher"), WATCHER)
    await asyncio.wait_for(jetstream.ensure_streams(watcher), WITHIN_S)
    await denied(node, subjects.live(f"{subjects.node_scope('node-2')}.>"))
    await denied(reader, f"{subjects.ROOT}.plan.>")
    await denied(watcher, "_INBOX.resolver.>")
    for bus in (resolver, node, reader, watcher):
        assert not bus.denied
        await bus.close()


async def test_the_example_of_the_docs_listens_with_a_reader_s_token(hall: Hall) -> None:
    resolver = await hall.connect(hall.token("ebbgate-resolver"), RESOLVER)
    await asyncio.wait_for(jetstream.ensure_streams(resolver), WITHIN_S)
    pub = publisher.Publisher(resolver)
    await pub.start()
    subject = subjects.endpoint("node-1", "10.244.1.10")
    row = codec.encode(rows.Endpoint(ip="10.244.1.10", set="00ff", bucket=7, pod="default/a"))
    await pub.publish([Outgoing(subject, row)])
    settings = {
        "EBBGATE_NATS_URL": hall.url,
        "EBBGATE_NATS_CA": str(hall.ca),
        "EBBGATE_NATS_TOKEN": str(hall.write("reader.token", hall.token("ebbgate-reader"))),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLE)), stdout=asyncio.subprocess.PIPE, env=settings
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(WITHIN_S):
            assert await process.stdout.readline() == b"10.244.1.10 default/a\n"
            await pub.publish([Outgoing(subject, b"", {envelope.TTL: streams.TOMBSTONE_TTL})])
            assert await process.stdout.readline() == b"10.244.1.10 gone\n"
    finally:
        process.kill()
        await process.wait()
        await resolver.close()


async def test_a_node_is_what_its_pod_s_token_says_whatever_it_says_itself(hall: Hall) -> None:
    node = await hall.connect(hall.token("ebbgate-programmer", node="node-2"), NODE1, inbox_prefix="_INBOX.x")
    await denied(node, subjects.live(f"{subjects.node_scope('node-1')}.>"))
    await node.publish(subjects.status("node-1"), b"{}")
    async with asyncio.timeout(WITHIN_S):
        while not node.denied:
            await node.flush()
    assert subjects.status("node-1") in node.denied
    await node.close()


@pytest.mark.parametrize(
    ("account", "node", "audience", "reason"),
    [
        ("ebbgate-programmer", "node-1", "another", "doesn't know the token"),
        ("ebbgate-programmer", "node-1", "", "doesn't know the token"),
        ("ebbgate-programmer", "", "ebbgate-nats", "isn't bound to a pod on a node"),
        ("ebbgate-usher", "", "ebbgate-nats", "is nobody on this bus"),
    ],
    ids=["audience", "no-audience", "no-pod", "account"],
)
async def test_a_token_of_something_else_is_refused(
    hall: Hall, account: str, node: str, audience: str, reason: str
) -> None:
    await refused(hall.access(hall.token(account, node=node, audience=audience)), hall, reason)


async def test_an_expired_token_is_refused(hall: Hall) -> None:
    token = hall.token("ebbgate-programmer", node="node-1")
    await refused(hall.access(hall.ending(token, time.time() - 60)), hall, "expired")


async def test_a_token_that_somebody_else_signed_is_refused(hall: Hall) -> None:
    token = hall.token("ebbgate-resolver")
    await refused(hall.access(token[:-8] + "AAAAAAAA"), hall, "doesn't know the token")


async def test_who_shows_no_token_is_refused(hall: Hall) -> None:
    await refused(access.Access(url=hall.url, ca=hall.ca), hall, "shows no token")


async def test_a_pod_that_is_gone_takes_its_token_along(hall: Hall) -> None:
    pod = hall.pod("node-3")
    token = hall.token("ebbgate-programmer", node="node-3")
    hall.api.delete(pod)
    await refused(hall.access(token), hall, "doesn't know the token")


async def test_a_token_that_ends_is_followed_by_the_next_without_loss(hall: Hall) -> None:
    """What kubelet does each hour: the file has a newer token long before the old one ends."""
    resolver = await hall.connect(hall.token("ebbgate-resolver"), RESOLVER)
    await asyncio.wait_for(jetstream.ensure_streams(resolver), WITHIN_S)
    first = hall.token("ebbgate-programmer", node="node-1")
    node = await hall.connect(hall.ending(first, time.time() + 3), NODE1)
    hall.write("programmer-node-1.token", hall.token("ebbgate-programmer", node="node-1"))
    came_back = asyncio.Event()
    node.on_interruption(came_back.set)
    pub = publisher.Publisher(node)
    await pub.start()
    number = 0
    async with asyncio.timeout(WITHIN_S):
        while not came_back.is_set():
            number += 1
            applied = reports.Applied(node="node-1", drift_repairs=number)
            await pub.publish([Outgoing(subjects.status("node-1"), codec.encode(applied))])
        await pub.publish([Outgoing(subjects.stats("node-1"), b"{}")])
    (status,) = await follower.read(resolver, streams.STATUS, [subjects.status("node-1")])
    decoded = codec.decode_as(reports.Applied, status.subject, status.payload)
    assert decoded.drift_repairs == number
    for bus in (resolver, node):
        await bus.close()


async def test_a_reader_hears_that_an_usher_lives_and_status_tells(hall: Hall) -> None:
    resolver = await hall.connect(hall.token("ebbgate-resolver"), RESOLVER)
    await jetstream.ensure_streams(resolver)
    await resolver.close()
    token = hall.write("cli.token", hall.token("ebbgate-reader"))
    command = [sys.executable, "-m", "ebbgate_cli", "status", "-o", "json", "--nats", hall.url]
    process = await asyncio.create_subprocess_exec(
        *(*command, "--nats-ca", str(hall.ca), "--nats-token", str(token)), stdout=asyncio.subprocess.PIPE
    )
    told = json.loads((await asyncio.wait_for(process.communicate(), WITHIN_S))[0])
    assert {"name": "usher", "says": f"1 alive: {socket.gethostname()}"} in told["parts"]
    assert "no usher is heard" not in [each["what"] for each in told["troubles"]]


async def test_a_second_usher_answers_when_the_first_is_gone(hall: Hall) -> None:
    second = hall.usher()
    await until_logged(second, "usher.ready")
    hall.ushers[0].kill()
    bus = await asyncio.wait_for(hall.connect(hall.token("ebbgate-reader"), READER), WITHIN_S)
    await bus.close()
    assert events(second, "connection.accepted")


async def test_it_counts_its_answers(hall: Hall) -> None:
    bus = await asyncio.wait_for(hall.connect(hall.token("ebbgate-reader"), READER), WITHIN_S)
    await bus.close()
    assert hall.health("/readyz") == "ok\n"
    told = hall.health("/metrics")
    assert 'ebbgate_usher_answers_total{outcome="accepted"} 1.0' in told
    assert "ebbgate_usher_under_way 0.0" in told
    assert "ebbgate_usher_review_seconds_count 2.0" in told  # its own question, and that of the reader
    assert "ebbgate_bus_connected 1.0" in told


async def test_one_that_may_not_ask_is_not_ready(hall: Hall) -> None:
    """So that an upgrade stops at it, and the ushers before it go on."""
    lacking = hall.usher("ebbgate-reader")
    await until_logged(lacking, "api.unusable")
    assert 'cannot create resource "tokenreviews"' in hall.health("/readyz")
    assert not events(lacking, "usher.ready")


async def _credentials(hall: Hall, *arguments: str) -> tuple[int, str]:
    """As the ServiceAccount that deploy/ has for it."""
    token = hall.write("credentials.token", hall.token("ebbgate-credentials", audience=""))
    api = ("--api-url", hall.api.url, "--api-token", str(token), "--api-ca", str(hall.api.signed_by))
    command = [sys.executable, "-m", "ebbgate_usher", "credentials", "--names", "localhost", *api, *arguments]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await asyncio.wait_for(process.communicate(), WITHIN_S)
    return process.returncode or 0, (out + errors).decode()


def _secrets(hall: Hall) -> dict[str, set[str]]:
    found = hall.api.client.call("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets")["items"]
    return {each["metadata"]["name"]: set(each["data"]) for each in found}


async def test_credentials_are_made_into_secrets_rotated_and_left_alone(hall: Hall) -> None:
    for name in _secrets(hall):
        hall.api.client.call("DELETE", f"/api/v1/namespaces/{NAMESPACE}/secrets/{name}")
    assert (await _credentials(hall, "--namespace", NAMESPACE))[0] == 0
    made = _secrets(hall)
    authority = made.pop("ebbgate-nats-authority")
    assert made == {
        "ebbgate-nats-ca": {"ca.crt"},
        "ebbgate-nats-server": {"ca.crt", "tls.crt", "tls.key", "accounts.conf"},
        "ebbgate-nats-usher": {"issuer.nk", "usher.nk"},
    }
    assert await _credentials(hall, "--namespace", NAMESPACE) == (0, "nothing is due\n")
    assert (await _credentials(hall, "--namespace", NAMESPACE, "--rotate"))[0] == 0
    assert len(_secrets(hall)["ebbgate-nats-authority"]) == len(authority) + 2
    assert (await _credentials(hall, "--namespace", NAMESPACE, "--settle", "0"))[0] == 0
    assert (await _credentials(hall, "--namespace", NAMESPACE, "--settle", "0"))[0] == 0
    assert len(_secrets(hall)["ebbgate-nats-authority"]) == len(authority)


async def test_what_it_may_not_write_is_said(hall: Hall) -> None:
    code, said = await _credentials(hall, "--namespace", "default")
    assert code == 1
    assert "credentials can't be made" in said
    assert "403" in said


async def test_the_server_is_told_when_its_files_change(hall: Hall) -> None:
    assert hall.server is not None
    pid_file, log = hall.write("nats.pid", str(hall.server.pid)), hall.folder / "reload.log"
    files = [str(hall.folder / "server" / name) for name in ("tls.crt", "accounts.conf")]
    command = [sys.executable, "-m", "ebbgate_usher", "reload", "--pid-file", str(pid_file), *files]
    process = processes.Process("reload", command, log=log)
    process.start()
    try:
        await until_logged(process, "server.reloaded")
        wish = making.Wish(names=("localhost",), callout=True, rotate=True)
        await making.make(stores.Folder(hall.folder), wish, time.time())
        await until_logged(process, "server.reloaded", 2)
        async with asyncio.timeout(WITHIN_S):
            while hall.server.log.read_text().count("Reloaded server configuration") < 2:
                await asyncio.sleep(0.05)
    finally:
        process.kill()
    assert "not supported" not in hall.server.log.read_text()
    bus = await asyncio.wait_for(hall.connect(hall.token("ebbgate-reader"), READER), WITHIN_S)
    await bus.close()


async def test_the_usher_s_own_keys_are_replaced_with_restarts(hall: Hall) -> None:
    assert hall.server is not None
    wish = making.Wish(names=("localhost",), callout=True, rotate_usher=True)
    assert "wrote usher" in await making.make(stores.Folder(hall.folder), wish, time.time())
    for process in (hall.ushers[0], hall.server):
        process.kill()
        process.start()
    bus = await asyncio.wait_for(hall.connect(hall.token("ebbgate-reader"), READER), WITHIN_S)
    await bus.close()
