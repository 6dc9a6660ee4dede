"""What the kernel tests stand on: the lab's namespaces, a real nats-server, nginx, and programmers in nodes.

The plan is published by the test itself, row by row and then the Commits, as the resolver's revisions end up
in the stream: nothing else of Ebbgate runs here.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from ebbgate_bus.contracts import codec, digests, reports, rows, streams, subjects
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.contracts.message import Message
from ebbgate_bus.runtime import connection, follower, jetstream, publisher
from ebbgate_lab import topology
from ebbgate_programmer.core import firewall

ROOT = pathlib.Path(__file__).resolve().parents[2]
OBJECT = ROOT / "build/bpf/ebbgate.bpf.o"
BPFFS = pathlib.Path("/sys/fs/bpf")
URL = "nats://10.168.60.10:4222"
SITE = "http://10.168.60.13/"
SITE6 = f"http://[{topology.twin('10.168.60.13')}]/"
PATIENCE = int(os.environ.get("EBBGATE_PATIENCE", "1"))
"""How many times longer everything may take: an emulated machine is slow."""
DEADLINE_S = 15.0 * PATIENCE
NODES = ("node1", "node2")
SLOT = 77


def prefix(letter: str) -> str:
    """Of namespaces and pins: another for each checkout and each worker, so that runs can stand side by side;
    the same in the next run, which removes what this one left.
    """
    checkout = hashlib.blake2b(str(ROOT).encode(), digest_size=1).hexdigest()
    return f"eb{letter}{checkout}{os.environ.get('PYTEST_XDIST_WORKER', '').removeprefix('gw')}-"


OTHER_LAYOUT = """
import sys
from ebbgate_programmer.core import layout
layout.LAYOUT = {}
from ebbgate_programmer import __main__
sys.exit(__main__.main())
"""
PROGRAMMER = (sys.executable, "-m", "ebbgate_programmer")

NGINX = """
daemon off; pid {home}/nginx.pid; error_log {home}/error.log; worker_processes 1;
events {{ }}
http {{
  access_log {home}/access.log; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi; uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
  server {{ listen 80; listen [::]:80; location / {{ return 200 "$remote_addr"; }}
    keepalive_requests 1000000; }}
}}
"""


def nft_objects() -> list[dict[str, object]]:
    """All of our tables, in nft's own words."""
    found = []
    for table in firewall.TABLES:
        asked = subprocess.run(("nft", "-j", "list", "table", *table), capture_output=True, check=False)
        if asked.returncode == 0:
            found += json.loads(asked.stdout)["nftables"]
    return found


async def until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Returns once `condition` holds; fails with `what` if it doesn't in time."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not in time: {what}"
        await asyncio.sleep(0.01)


def path_group(node: str = "node2", gateway: str = "10.168.60.12", slot: int = SLOT) -> rows.Group:
    """All by one gateway: IPv4 by `slot`, IPv6 by the next."""
    four, six = (
        rows.Paths(paths=(rows.Path(node, gateway, number),), buckets=(0,) * rows.BUCKETS)
        for number in (slot, slot + 1)
    )
    return rows.Group(policy="egress-sample", ipv4=four, ipv6=six)


def shared_rows(group: rows.Group | None = None) -> dict[str, Message]:
    """Scope `all` of the first scenario; `group` replaces the policy's."""
    hosts = ("10.168.60.10", "10.168.60.11", "10.168.60.12")
    inside = [topology.POD_NETWORK, topology.POD_NETWORK6, *(f"{host}/32" for host in hosts)]
    inside += [f"{topology.twin(host)}/128" for host in hosts]
    routes = tuple(
        rows.Route(cidr, rows.Action.STEER, "uid-1", "egress-sample") for cidr in ("0.0.0.0/0", "::/0")
    )
    return {
        subjects.routes("s1", 0): rows.Routes(policies=("egress-sample",), routes=routes),
        subjects.group("uid-1"): group or path_group(),
        subjects.peer("node1"): rows.Peer(addresses=("10.168.60.11",)),
        subjects.peer("node2"): rows.Peer(addresses=("10.168.60.12",)),
        **{subjects.cluster(cidr): rows.Cluster(cidr=cidr) for cidr in inside},
    }


def node_rows(node: str, *, pod: str = "10.244.1.10", egress_ip: str = "10.168.60.100") -> dict[str, Message]:
    """A node's own scope, both families: node1 has the endpoint, node2 the slots."""
    if node == "node1":
        return {
            subjects.endpoint(node, ip): rows.Endpoint(ip=ip, set="s1", bucket=5, pod="default/mediabot")
            for ip in (pod, topology.twin(pod))
        }
    return {
        subjects.egress(node, slot): rows.Egress(egress_ip=ip, interface="eth0", policies=("egress-sample",))
        for slot, ip in ((SLOT, egress_ip), (SLOT + 1, topology.twin(egress_ip)))
    }


CONVERSATION = """
import http.client, time
connection = http.client.HTTPConnection("10.168.60.13", timeout=60)
while True:
    connection.request("GET", "/")
    print(connection.getresponse().read().decode(), flush=True)
    time.sleep(0.02)
"""
"""Requests without pause over one connection; ends with it."""


class Plan:
    """Writes the PLAN stream as a resolver would leave it."""

    def __init__(self, bus: connection.Bus, sender: publisher.Publisher) -> None:
        self._bus, self._sender = bus, sender
        self._revision = 0
        self._held: dict[str, dict[str, bytes]] = {}

    async def publish(self, scopes: Mapping[str, Mapping[str, Message]]) -> int:
        """Each named scope holds these rows from now on; returns the revision."""
        self._revision += 1
        outgoing: list[Outgoing] = []
        for scope, wanted in scopes.items():
            old, new = self._held.get(scope, {}), {key: codec.encode(row) for key, row in wanted.items()}
            gone = {key: b"" for key in old.keys() - new.keys()}
            outgoing += [
                Outgoing(key, payload) for key, payload in (new | gone).items() if old.get(key) != payload
            ]
            self._held[scope] = new
        for scope in sorted(scopes, key=lambda name: name == subjects.ALL_SCOPE):
            outgoing.append(self._commit(scope))
        await self._sender.publish(outgoing)
        return self._revision

    def _commit(self, scope: str) -> Outgoing:
        held = self._held[scope]
        commit = rows.Commit(
            epoch=1, revision=self._revision, count=len(held), digest=digests.text(digests.of_rows(held))
        )
        return Outgoing(subjects.commit(scope), codec.encode(commit))

    async def scenario(self) -> int:
        """The first scenario: mediabot on node1 leaves by node2 as 10.168.60.100."""
        return await self.publish(
            {
                subjects.ALL_SCOPE: shared_rows(),
                subjects.node_scope("node1"): node_rows("node1"),
                subjects.node_scope("node2"): node_rows("node2"),
            }
        )


class Rig:
    """Two nodes ready for programmers. `home`: for logs and the nginx of the external host."""

    def __init__(self, lab: topology.Topology, home: pathlib.Path) -> None:
        self.lab, self.home = lab, home
        self.object = OBJECT
        self.resync_s = 1.0
        self.programmers: dict[str, subprocess.Popen[bytes]] = {}
        self._others: list[subprocess.Popen[bytes]] = []

    def pins(self, node: str) -> pathlib.Path:
        return BPFFS / f"{self.lab.prefix}test" / node

    def start_in(self, name: str, *argv: str, log: str) -> subprocess.Popen[bytes]:
        with (self.home / log).open("ab") as output:
            return subprocess.Popen(self.lab.inside(name, *argv), stdout=output, stderr=output, cwd=ROOT)

    def add(self, process: subprocess.Popen[bytes]) -> None:
        """One more to be ended with the rig."""
        self._others.append(process)

    def start_nginx(self) -> None:
        configuration = self.home / "nginx.conf"
        configuration.write_text(NGINX.format(home=self.home))
        os.chmod(self.home, 0o755)
        self._others.append(self.start_in("external", "nginx", "-c", str(configuration), log="nginx.log"))
        end = time.monotonic() + DEADLINE_S
        while self.curl("xwing", seconds=1) == "":
            assert time.monotonic() < end, "nginx doesn't answer"

    def start_nats(self) -> None:
        server = shutil.which("nats-server", path=str(pathlib.Path(sys.executable).parent)) or "nats-server"
        arguments = ("-a", "10.168.60.10", "-p", "4222", "-js", "-sd", str(self.home / "js"))
        self._others.append(self.start_in("control", server, *arguments, log="nats.log"))

    def programmer(self, node: str, command: str) -> tuple[str, ...]:
        options = (
            "--node",
            node,
            "--nats",
            URL,
            "--pin-path",
            str(self.pins(node)),
            "--bpf-object",
            str(self.object),
            "--resync",
            str(self.resync_s),
        )
        return (*PROGRAMMER, command, *options)

    def start(self, node: str, *, layout: int = 0, under: Sequence[str] = ()) -> None:
        """The programmer of `node`, in its namespace.

        `layout`: as a version with that one of maps. `under`: a command that runs it.
        """
        argv = (*under, *self.programmer(node, "run"))
        if layout:
            argv = (sys.executable, "-c", OTHER_LAYOUT.format(layout), *argv[len(PROGRAMMER) :])
        self.programmers[node] = self.start_in(node, *argv, log=f"{node}.log")

    def kill(self, node: str, number: int = signal.SIGKILL) -> None:
        process = self.programmers.pop(node)
        process.send_signal(number)
        process.wait(DEADLINE_S)

    def clean(self, node: str) -> None:
        self.lab.run(node, *self.programmer(node, "clean"))

    def log(self, node: str) -> str:
        return (self.home / f"{node}.log").read_text()

    def curl(self, pod: str, *, seconds: int = 3, site: str = SITE) -> str:
        """The address that nginx saw, or empty if there was no answer."""
        return self.lab.run(pod, "curl", "-s", "-m", str(seconds * PATIENCE), site, check=False)

    def converse(self, pod: str) -> subprocess.Popen[bytes]:
        """One connection from `pod` that goes on until it breaks; `said(pod)` is what nginx saw."""
        with (self.home / f"said-{pod}").open("wb") as output:
            argv = self.lab.inside(pod, sys.executable, "-c", CONVERSATION)
            talking = subprocess.Popen(argv, stdout=output, stderr=subprocess.DEVNULL)
        self._others.append(talking)
        return talking

    def said(self, pod: str) -> list[str]:
        return (self.home / f"said-{pod}").read_text().split()

    def stop(self) -> None:
        # SIGTERM, not SIGKILL: nginx takes its worker with it.
        for process in (*self.programmers.values(), *self._others):
            process.terminate()
        for process in (*self.programmers.values(), *self._others):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(DEADLINE_S)
            process.kill()
            process.wait()
        for node in ("node1", "node2"):
            if self.lab.path(node).exists():
                self.clean(node)
        self.remove_pins()
        self.lab.remove()

    def remove_pins(self) -> None:
        """Also those of a run that was killed: its links would look like this one's."""
        shutil.rmtree(BPFFS / f"{self.lab.prefix}test", ignore_errors=True)


@contextlib.asynccontextmanager
async def connected(rig: Rig) -> AsyncIterator[tuple[connection.Bus, Plan]]:
    """A connection to the rig's bus, its streams, and a writer of the plan."""
    with rig.lab.entered("control"):
        bus = await connection.connect(URL, name="test")
    try:
        await jetstream.ensure_streams(bus)
        sender = publisher.Publisher(bus)
        await sender.start()
        yield bus, Plan(bus, sender)
    finally:
        await bus.close()


async def bring_up(rig: Rig, bus: connection.Bus, plan: Plan) -> int:
    """Programmers on both nodes, and the first scenario applied; its revision."""
    for node in NODES:
        rig.start(node)
    return await settle(bus, await plan.scenario())


async def settle(bus: connection.Bus, revision: int) -> int:
    """Once both nodes have applied it."""
    for node in NODES:
        await applied(bus, node, revision)
    return revision


async def applied(bus: connection.Bus, node: str, revision: int) -> reports.Applied:
    """The first Applied of `node` with at least this `all` revision."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        for stored in await follower.read(bus, streams.STATUS, [subjects.status(node)]):
            said = codec.decode(stored.subject, stored.payload)
            if isinstance(said, reports.Applied) and said.all_revision >= revision:
                return said
        await asyncio.sleep(0.02)
    raise AssertionError(f"{node} didn't apply revision {revision}")


def ensure_bpffs() -> None:
    """The machine's, mounted once and left there."""
    if not os.path.ismount(BPFFS):
        subprocess.run(["mount", "-t", "bpf", "bpf", str(BPFFS)], check=True)


def ensure_object() -> None:
    subprocess.run(["make", "-s", "-C", str(ROOT / "services/programmer/bpf")], check=True)
