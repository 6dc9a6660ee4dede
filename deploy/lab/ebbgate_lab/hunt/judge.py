"""The judgement: each packet's source against the states that may have been in force when it arrived. Pure.

A state may be in force from the moment before it is published until every node has said that it holds a later
one; so around each change two states are allowed, or more if several objects changed at once, in any order.
"""

import bisect
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from ebbgate_lab import topology
from ebbgate_lab.hunt import capture, packets, world
from ebbgate_lab.hunt.world import State

GRACE_NS = 100_000_000
"""A packet may have passed its gateway before the change and reach the capture after Applied was read: it
waits in queues between, on two busy cores for some ten milliseconds."""
FOREVER_NS = 1 << 63
_POD_NETWORKS = (topology.POD_NETWORK.removesuffix("0.0/16"), topology.POD_NETWORK6.removesuffix(":/48"))


class Period(msgspec.Struct, frozen=True):
    """`state` may have been in force from `begin_ns` until `end_ns`. `text`: the change that brought it."""

    begin_ns: int
    end_ns: int
    state: State
    text: str


class Wrong(msgspec.Struct, frozen=True):
    packet: capture.Arrived
    allowed: tuple[str, ...]
    periods: tuple[Period, ...]

    def text(self) -> str:
        packet = self.packet
        kind = "unknown" if packet.kind == packets.NOBODY else packets.KINDS[packet.kind]
        lines = [
            f"at {packet.at_ns}: {packet.source} → {packet.destination}, pod{packet.pod}, {kind}, protocol "
            f"{packet.protocol}, ttl {packet.ttl}, sequence {packet.sequence}; allowed: {self.allowed}",
        ]
        for period in self.periods:
            since_ms = (packet.at_ns - period.begin_ns) / 1e6
            lines.append(f"  possible since {since_ms:.1f} ms, after “{period.text}”: {period.state}")
        return "\n".join(lines)


class Verdict(msgspec.Struct, frozen=True):
    """`judged`: packets from pods. `steered`: those that must not have their own node's address. `by_kind`:
    packets.KINDS'. `ipv6`: of those judged. `others`: made by nodes themselves.
    """

    judged: int
    steered: int
    others: int
    by_kind: tuple[int, ...]
    ipv6: int
    wrong: tuple[Wrong, ...]


def judge(arrived: Iterable[capture.Arrived], periods: Sequence[Period]) -> Verdict:
    timeline = _Timeline(periods)
    judged = steered = others = ipv6 = 0
    by_kind = [0] * len(packets.KINDS)
    wrong = []
    for packet in arrived:
        if not packet.from_pod and not packet.source.startswith(_POD_NETWORKS):
            others += 1
            continue
        allowed = timeline.allowed(packet)
        judged += 1
        ipv6 += world.family(packet.destination) == "ipv6"
        if packet.kind != packets.NOBODY:
            by_kind[packet.kind] += 1
            steered += world.node_ip(world.PODS[packet.pod].node, packet.destination) not in allowed
        if packet.source not in allowed:
            found = tuple(sorted(ip for ip in allowed if ip))
            wrong.append(Wrong(packet, found, timeline.at(packet.at_ns)))
    return Verdict(judged, steered, others, tuple(by_kind), ipv6, tuple(wrong))


class _Timeline:
    """Between two boundaries the same states are possible; answers are kept, packets are many."""

    def __init__(self, periods: Sequence[Period]) -> None:
        self._begins = sorted({edge for each in periods for edge in (each.begin_ns, each.end_ns)})
        self._periods = [
            tuple(each for each in periods if each.begin_ns <= begin < each.end_ns) for begin in self._begins
        ]
        self._answers: dict[tuple[int, int, str], frozenset[str | None]] = {}

    def at(self, at_ns: int) -> tuple[Period, ...]:
        return self._periods[self._index(at_ns)]

    def allowed(self, packet: capture.Arrived) -> frozenset[str | None]:
        key = (self._index(packet.at_ns), packet.pod, packet.destination)
        if key not in self._answers:
            self._answers[key] = frozenset(self._all(*key))
        return self._answers[key]

    def _all(self, index: int, pod: int, destination: str) -> Iterator[str | None]:
        # Of a packet that doesn't say whose it is, it is only asked whether any pod might have sent it.
        places = world.PODS if pod == packets.NOBODY else (world.PODS[pod],)
        for period in self._periods[index]:
            for place in places:
                yield from world.answers(period.state, place, destination)

    def _index(self, at_ns: int) -> int:
        return max(0, bisect.bisect_right(self._begins, at_ns) - 1)
