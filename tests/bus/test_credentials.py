"""TLS and credentials as `ebbgate-usher credentials` makes them, on the real server: what is refused and how
that is said, and rotation under running clients without a lost message.
"""

import asyncio
import contextlib
import json
import os
import pathlib
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from cryptography import x509

from ebbgate_bus.contracts import codec, reports, streams, subjects
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.contracts.permissions import Principal, Role
from ebbgate_bus.runtime import access, connection, follower, jetstream, publisher, vitals
from ebbgate_lab import processes
from ebbgate_usher.io import certificates, making, stores
from tests.docs import pages, register, shell

from . import operated
from .test_fences import free_port
from .test_permissions import WITHIN_S

NODE1, RESOLVER = Principal(Role.PROGRAMMER, "node-1"), Principal(Role.RESOLVER)
NAMES = ("localhost",)


class Made:
    """A folder of credentials, and a server that has them."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self._port = folder, free_port()
        self.url = f"nats://localhost:{self._port}"
        self.now_s = time.time() - 20_000  # so that what a later run makes is valid already
        server = folder / "server"
        self._security = (
            f'tls {{ cert_file: "{server}/tls.crt", key_file: "{server}/tls.key" }}\n'
            'include "server/accounts.conf"\n'
        )
        self.process = self._process()

    def _process(self) -> processes.Process:
        return processes.nats_server(self.folder, host="127.0.0.1", port=self._port, security=self._security)

    async def make(self, **wish: object) -> list[str]:
        wanted = making.Wish(**({"names": NAMES, "callout": False, "nodes": ("node-1", "node-2")} | wish))  # type: ignore[arg-type]
        return await making.make(stores.Folder(self.folder), wanted, self.now_s)

    def expire(self) -> None:
        """The server has a certificate of more than a year ago, by an authority that is trusted."""
        self.now_s -= 400 * 86_400
        authority = certificates.make_authority(self.now_s)
        pair = certificates.make_server(authority, NAMES, self.now_s)
        (self.folder / "server" / "tls.crt").write_bytes(pair.certificate)
        (self.folder / "server" / "tls.key").write_bytes(pair.key)
        self.ca.write_bytes(authority.certificate)

    def start(self) -> None:
        self.process.start()
        processes.until_listening("127.0.0.1", self._port)

    def reload(self) -> None:
        os.kill(self.process.pid, signal.SIGHUP)

    @property
    def ca(self) -> pathlib.Path:
        return self.folder / "ca" / "ca.crt"

    def access(self, principal: Principal) -> access.Access:
        key = self.folder / "users" / f"{making.file_name(principal)}.nk"
        return access.Access(url=self.url, ca=self.ca, nkey=key)

    async def connect(self, principal: Principal) -> connection.Bus:
        reach = self.access(principal)
        return await asyncio.wait_for(
            connection.connect(reach, name=str(principal.role), principal=principal), WITHIN_S
        )


@pytest.fixture
def made(tmp_path: pathlib.Path) -> Iterator[Made]:
    """Not made or started yet."""
    made = Made(tmp_path)
    yield made
    made.process.kill()


async def refusal(reach: access.Access, principal: Principal | None = NODE1) -> str:
    """Why no connection comes about, as it is said."""
    said: list[str] = []
    connecting = asyncio.ensure_future(
        connection.connect(reach, name="refused", principal=principal, heed=said.append)
    )
    async with asyncio.timeout(WITHIN_S):
        while not said:
            await asyncio.sleep(0.01)
    connecting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await connecting
    return said[0]


async def test_what_was_made_works_and_making_again_changes_nothing(made: Made) -> None:
    await made.make()
    assert await made.make() == []
    made.start()
    bus = await made.connect(RESOLVER)
    await asyncio.wait_for(jetstream.ensure_streams(bus), WITHIN_S)
    await bus.close()
    for path in made.folder.rglob("*.nk"):
        assert path.stat().st_mode & 0o077 == 0


async def test_who_shows_nothing_is_refused(made: Made) -> None:
    await made.make()
    made.start()
    assert "Authorization Violation" in await refusal(access.Access(url=made.url, ca=made.ca))


async def test_a_server_that_gets_no_answer_about_us_is_called_silent(made: Made) -> None:
    """It asks an usher, and there is none. That we hang up then is no failure of TLS."""
    await made.make(callout=True)
    made.start()
    command = [sys.executable, "-m", "ebbgate_cli", "nodes", "--nats", made.url, "--nats-ca", str(made.ca)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert "(the server didn't answer in time)" in " ".join(done.stderr.split())


async def test_who_shows_an_unknown_key_is_refused(made: Made, tmp_path: pathlib.Path) -> None:
    await made.make()
    made.start()
    key = tmp_path / "other.nk"
    key.write_text(making.keys.make(making.nkeys.Kind.USER))
    said = await refusal(access.Access(url=made.url, ca=made.ca, nkey=key))
    assert "--nats-nkey" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), ("", "is empty"), ("SUAA", "checksum"), ("\x80", "not text")],
)
async def test_a_key_file_that_is_none_is_named(
    made: Made, tmp_path: pathlib.Path, content: str | None, said: str
) -> None:
    await made.make()
    made.start()
    key = tmp_path / "bad.nk"
    if content is not None:
        key.write_bytes(content.encode("latin-1"))
    heard = await refusal(access.Access(url=made.url, ca=made.ca, nkey=key))
    assert str(key) in heard
    assert said in heard


async def test_a_server_of_another_authority_is_refused(made: Made, tmp_path: pathlib.Path) -> None:
    await made.make()
    made.start()
    other = tmp_path / "other.crt"
    other.write_bytes(certificates.make_authority(time.time()).certificate)
    assert "nobody that --nats-ca names" in await refusal(access.Access(url=made.url, ca=other))


async def test_without_an_authority_ours_isnt_known(made: Made) -> None:
    await made.make()
    made.start()
    assert "nobody that --nats-ca names" in await refusal(access.Access(url=made.url))


async def test_a_ca_file_that_is_none_is_named(made: Made, tmp_path: pathlib.Path) -> None:
    await made.make()
    made.start()
    bad = tmp_path / "bad.crt"
    bad.write_text("x")
    assert f"{bad}: no certificates" in await refusal(access.Access(url=made.url, ca=bad))


async def test_an_expired_certificate_is_refused_and_called_so(made: Made) -> None:
    await made.make()
    made.expire()
    made.start()
    assert "isn't valid any more" in await refusal(made.access(NODE1))


async def test_the_end_of_the_server_s_certificate_is_measured(made: Made) -> None:
    """That of the connection there is: after a renewal who stays connected goes on with the old one."""
    await made.make()
    made.start()
    own = vitals.Vitals("resolver")

    def measured() -> list[object]:
        (ends,) = [each.values for each in own.measured() if each.family is vitals.CERTIFICATE]
        return list(ends.values())

    assert measured() == []
    bus = await own.connect(made.access(RESOLVER), name="resolver", principal=RESOLVER)
    shown = x509.load_pem_x509_certificate((made.folder / "server" / "tls.crt").read_bytes())
    assert measured() == [shown.not_valid_after_utc.timestamp()]
    await bus.close()
    assert measured() == []


async def test_a_certificate_for_another_name_is_refused(made: Made) -> None:
    await made.make(names=("elsewhere.example",))
    made.start()
    assert "isn't accepted (Hostname mismatch" in await refusal(made.access(NODE1))


async def test_a_server_without_tls_gets_no_credentials(made: Made) -> None:
    """Also who only pretends to be one: nothing is shown before the certificate was."""
    await made.make()
    heard: list[bytes] = []
    handlers: set[asyncio.Task[None] | None] = set()

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","max_payload":1000,"nonce":"n","auth_required":true}\r\n')
        handlers.add(asyncio.current_task())
        heard.append(await reader.read(1000))
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(pretend, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        reach = access.Access(url=f"nats://127.0.0.1:{port}", ca=made.ca, nkey=made.access(NODE1).nkey)
        assert "without TLS" in await refusal(reach)
        await asyncio.gather(*filter(None, handlers))
        assert heard
        assert set(heard) == {b""}


async def test_rotation_of_everything_under_running_clients_loses_nothing(made: Made) -> None:
    """Two steps, each with a reload, the way a run a day does them; what was before is refused at the end."""
    await made.make()
    made.start()
    resolver, node = await made.connect(RESOLVER), await made.connect(NODE1)
    await asyncio.wait_for(jetstream.ensure_streams(resolver), WITHIN_S)
    old_ca, old_key = made.folder / "old.crt", made.folder / "old.nk"
    old_ca.write_bytes(made.ca.read_bytes())
    old_key.write_bytes((made.folder / "users" / "programmer-node-1.nk").read_bytes())
    sent, stop = 0, asyncio.Event()
    pub = publisher.Publisher(node)
    await pub.start()

    async def report_without_pause() -> None:
        nonlocal sent
        while not stop.is_set():
            applied = reports.Applied(node="node-1", drift_repairs=sent + 1)
            await pub.publish([Outgoing(subjects.status("node-1"), codec.encode(applied))])
            sent += 1

    seen: list[int] = []

    async def follow() -> None:
        async for batch in follower.Follower(
            resolver, streams.STATUS, [f"{subjects.ROOT}.status.>"]
        ).batches():
            for message in batch.messages:
                seen.append(json.loads(message.payload)["drift_repairs"])

    async def some_more() -> None:
        before = sent
        async with asyncio.timeout(30):
            while sent < before + 50:
                await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(report_without_pause()), asyncio.create_task(follow())]
    await some_more()
    made.now_s += 10
    await made.make(rotate=True)  # a new authority in the bundle, new keys beside the old
    made.reload()
    await some_more()
    fresh = await made.connect(NODE1)  # with the new key
    await fresh.close()
    made.now_s += 4_000
    assert await made.make()  # the server's certificate by the new authority; old keys go
    made.reload()
    await some_more()
    made.now_s += 4_000
    assert "wrote ca" in await made.make()  # the old authority goes
    made.reload()
    await some_more()
    made.process.kill()  # everybody has to come back
    made.process.start()
    await some_more()
    stop.set()
    await tasks[0]
    async with asyncio.timeout(WITHIN_S):
        while not seen or seen[-1] != sent:
            await asyncio.sleep(0.01)
    assert seen == sorted(seen)
    assert await made.make() == []
    assert ssl.PEM_cert_to_DER_cert(made.ca.read_text()) != ssl.PEM_cert_to_DER_cert(old_ca.read_text())
    assert "nobody" in await refusal(access.Access(url=made.url, ca=old_ca, nkey=made.access(NODE1).nkey))
    assert "Violation" in await refusal(access.Access(url=made.url, ca=made.ca, nkey=old_key))
    tasks[1].cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await tasks[1]
    for bus in (resolver, node):
        await bus.close()


async def test_a_server_with_an_operator_is_used_by_credentials_of_an_account(tmp_path: pathlib.Path) -> None:
    """As hosted ones have it: one account, in which each of ours may do all."""
    hosted = operated.Operated(tmp_path)
    hosted.start()
    try:
        reach = access.Access(url=hosted.url, creds=hosted.creds)
        bus = await asyncio.wait_for(connection.connect(reach, name="r", principal=RESOLVER), WITHIN_S)
        await jetstream.ensure_streams(bus)
        pipeline = publisher.Publisher(bus)
        await pipeline.start()
        await pipeline.publish([Outgoing(subjects.peer("node-1"), b"{}")])
        assert len(await follower.read(bus, streams.PLAN, [f"{subjects.ALL_SCOPE}.>"])) == 1
        await bus.close()
        assert "Violation" in await refusal(access.Access(url=hosted.url))
        hosted.creds.write_text("nothing")
        assert "it isn't a .creds file" in await refusal(reach)
    finally:
        hosted.process.kill()


def test_the_page_on_security_says_what_works(tmp_path: pathlib.Path) -> None:
    """Its commands for a list of nodes, and nats-server takes the configuration that it shows."""
    page = (pages.ROOT / "docs" / "security.md").read_text()
    configuration = next(
        block for block in page.split("```") if "accounts.conf" in block and "tls {" in block
    )
    options = "--out bus --names localhost --nodes node1,node2"
    person = shell.Shell(register.MADE, tmp_path, environment={})
    person.type(f"ebbgate-usher credentials {options}")
    person.type("ebbgate-usher credentials", more=options)
    person.type("ebbgate-usher credentials … --rotate", words={"…": options})
    words = {"DIR": "other", "…": "node1 --names localhost"}
    person.type("ebbgate-usher credentials --out DIR --nodes …", words=words)
    assert person.typed == set(person.commands)
    (tmp_path / "nats.conf").write_text(configuration)
    server = [processes.nats_binary(), "-t", "-c", "nats.conf"]
    done = subprocess.run(server, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for node in ("node1", "node2"):
        assert (tmp_path / "bus" / "users" / f"programmer-{node}.nk").exists()
