"""A plan for two nodes, written into the PLAN stream as a resolver would leave it, of any size.

Only what is public is used here: rows, Commits, Applied. What the programmer makes of them is its own affair.
"""

import asyncio
import collections
import random
import time
from collections.abc import Callable, Container, Iterator, Mapping

import msgspec
from nats.aio.msg import Msg

from ebbgate_bus.contracts import codec, digests, envelope, reports, rows, subjects
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.contracts.message import Message
from ebbgate_bus.runtime import connection, jetstream, publisher

POD, POD_NODE, GATEWAY_NODE = "10.244.1.10", "node1", "node2"
GATEWAY_IP, EGRESS_IP, OUTSIDE = "10.168.60.12", "10.168.60.100", "10.168.60.13"
CLUSTER = ("10.244.0.0/16", "10.168.60.10/32", "10.168.60.11/32", "10.168.60.12/32")
SLOT, POLICY = 77, "uid-1"
SET, SHORT_SET = "s1", "s2"
"""The sending pod's set has all routes, that of all the others only the default."""
TIMEOUT_S = 60.0
HEADERS = {
    envelope.SEEN: "1700000000000000000",
    envelope.TRACEPARENT: envelope.traceparent("1" * 32, "2" * 16),
}
"""Each row has those of the event behind it. They cost a reader memory."""

Rows = Mapping[str, Message]


class Size(msgspec.Struct, frozen=True):
    """How much is in the maps of the pod's node."""

    endpoints: int = 1
    routes: int = 1

    def text(self) -> str:
        one = self == Size()
        return "1 endpoint, 1 route" if one else f"{self.endpoints:,} endpoints, {self.routes:,} routes"


def shared_rows(routes: int) -> dict[str, Message]:
    group = rows.Group(
        policy="egress-sample",
        ipv4=rows.Paths(paths=(rows.Path(GATEWAY_NODE, GATEWAY_IP, SLOT),), buckets=(0,) * rows.BUCKETS),
    )
    return {
        **_chunks(SET, list(_cidrs(routes))),
        **_chunks(SHORT_SET, ["0.0.0.0/0"]),
        subjects.group(POLICY): group,
        subjects.peer(POD_NODE): rows.Peer(addresses=("10.168.60.11",)),
        subjects.peer(GATEWAY_NODE): rows.Peer(addresses=(GATEWAY_IP,)),
        **{subjects.cluster(cidr): rows.Cluster(cidr=cidr) for cidr in CLUSTER},
    }


def gateway_rows() -> dict[str, Message]:
    egress = rows.Egress(egress_ip=EGRESS_IP, interface="eth0", policies=("egress-sample",))
    return {subjects.egress(GATEWAY_NODE, SLOT): egress}


def endpoint_rows(count: int, *, first: int = 0, of: str = SHORT_SET) -> dict[str, Message]:
    """`count` endpoints from number `first` on; number 0 is the pod that sends, the others are nobody."""
    found: dict[str, Message] = {}
    for number in range(first, first + count):
        ip = f"10.{245 + (number >> 16)}.{number >> 8 & 255}.{number & 255}" if number else POD
        row = rows.Endpoint(ip=ip, set=of if number else SET, bucket=5, pod=f"default/pod-{number}")
        found[subjects.endpoint(POD_NODE, ip)] = row
    return found


def _cidrs(count: int) -> Iterator[str]:
    """The default, then all that lead down to the destination (the deepest walk through a trie), then any."""
    yield "0.0.0.0/0"
    nested = [f"10.{168 & (0xFF00 >> max(0, length - 8))}.0.0/{length}" for length in range(8, 17)]
    yield from nested[: max(0, count - 1)]
    dice = random.Random(count)
    for number in range(count - 1 - len(nested)):
        yield f"{11 + number % 200}.{number // 200}.{dice.randrange(256)}.0/24"


def _chunks(set_id: str, cidrs: list[str]) -> dict[str, Message]:
    routes = [rows.Route(cidr, rows.Action.STEER, POLICY, "egress-sample") for cidr in sorted(cidrs)]
    parts = [routes[at : at + rows.ROUTES_PER_CHUNK] for at in range(0, len(routes), rows.ROUTES_PER_CHUNK)]
    return {
        subjects.routes(set_id, number): rows.Routes(policies=("egress-sample",), routes=tuple(part))
        for number, part in enumerate(parts)
    }


class Plan:
    """What the stream holds, and what must be said to make it hold something else."""

    def __init__(self) -> None:
        self.revision = 0
        self._held: dict[str, dict[str, bytes]] = {}

    def change(self, scopes: Mapping[str, Rows]) -> list[Outgoing]:
        """Each named scope holds these rows from now on: rows, then Commits, the shared one last."""
        self.revision += 1
        said: list[Outgoing] = []
        for scope, wanted in scopes.items():
            old, new = self._held.get(scope, {}), {key: codec.encode(row) for key, row in wanted.items()}
            said += [
                Outgoing(key, payload, HEADERS) for key, payload in new.items() if old.get(key) != payload
            ]
            said += [Outgoing(key, b"", HEADERS) for key in old.keys() - new.keys()]
            self._held[scope] = new
        return said + [
            self._commit(scope) for scope in sorted(scopes, key=lambda name: name == subjects.ALL_SCOPE)
        ]

    def _commit(self, scope: str) -> Outgoing:
        held = self._held[scope]
        digest = digests.text(digests.of_rows(held))
        commit = rows.Commit(epoch=1, revision=self.revision, count=len(held), digest=digest)
        return Outgoing(subjects.commit(scope), codec.encode(commit), HEADERS)


class Answer(msgspec.Struct, frozen=True):
    """`published_ms`, `applied_ms`: since publishing began, until the last row's ack and until Applied
    arrived; its `took_ms` is the programmer's own account.
    """

    applied: reports.Applied
    published_ms: float
    applied_ms: float


class Writer:
    """Publishes changes of a plan, and waits for the pod's node to say that it has applied them."""

    def __init__(self, bus: connection.Bus, plan: Plan) -> None:
        self._bus, self._plan = bus, plan
        self._sender = publisher.Publisher(bus)
        self._said: dict[str, asyncio.Queue[reports.Applied]] = collections.defaultdict(asyncio.Queue)

    async def start(self) -> None:
        await jetstream.ensure_streams(self._bus)
        await self._sender.start()
        await self._bus.subscribe(subjects.live(f"{subjects.ROOT}.status.*"), cb=self._hear)

    async def publish(self, scopes: Mapping[str, Rows]) -> Answer:
        """Returns when every node has applied what is its own, the pod's node also what all share."""
        outgoing = self._plan.change(scopes)
        began = time.monotonic()
        await self._sender.publish(outgoing)
        published_ms = (time.monotonic() - began) * 1000
        applied = await self.applied(POD_NODE, scopes)
        applied_ms = (time.monotonic() - began) * 1000
        if subjects.node_scope(GATEWAY_NODE) in scopes:
            await self.applied(GATEWAY_NODE, scopes)
        return Answer(applied, published_ms, applied_ms)

    async def applied(self, node: str, scopes: Container[str]) -> reports.Applied:
        """The node's word that its kernel holds the plan's revision of these scopes."""
        own = self._plan.revision if subjects.node_scope(node) in scopes else 0
        shared = self._plan.revision if subjects.ALL_SCOPE in scopes else 0
        return await self.heard(node, lambda said: said.node_revision >= own and said.all_revision >= shared)

    async def heard(self, node: str, holds: Callable[[reports.Applied], bool]) -> reports.Applied:
        """The next Applied of `node` that `holds`."""
        async with asyncio.timeout(TIMEOUT_S):
            while not holds(said := await self._said[node].get()):
                pass
        return said

    async def _hear(self, message: Msg) -> None:
        said = codec.decode(subjects.stored(message.subject), message.data)
        if isinstance(said, reports.Applied):
            self._said[said.node].put_nowait(said)
