"""Traffic as it flows: rates and totals, out of what nodes counted. Pure; what `ebbgate top` shows.

A node's Stats are totals since its maps were made. Two of them and the time between are a rate: the mean
since the node's last word. A counter that shrank began anew, so no rate is ever negative. A node that counts
nothing tells nothing: after QUIET_S of silence its rates are zero, and the time is then ours, not the node's.
"""

import enum
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

import msgspec

from ebbgate_bus.contracts import reports

Number = TypeVar("Number", int, float)
QUIET_S = 2.5 * reports.STATS_S
"""Two reports may be late or lost; the third is missing."""


class By(enum.StrEnum):
    """What a line is about."""

    POLICY = "policy"
    SLOT = "slot"
    NODE = "node"


class Told(msgspec.Struct, frozen=True):
    """One Stats. `time_ns`: the message's, 0 if it has none. `arrived_s`: by the clock of who reads."""

    stats: reports.Stats
    time_ns: int
    arrived_s: float


class Heard(msgspec.Struct, frozen=True):
    """A node's last two Stats."""

    latest: Told
    earlier: Told | None = None


class Total(msgspec.Struct, frozen=True):
    """Since the nodes' maps were made. `drops`: reason → packets."""

    packets: int = 0
    bytes: int = 0
    connections: int = 0
    drops: dict[str, int] = {}


class Rate(msgspec.Struct, frozen=True):
    """A second."""

    packets: float = 0.0
    bits: float = 0.0
    connections: float = 0.0
    drops: dict[str, float] = {}


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`name`: of the policy or the node, or the egress IP; `node`: its gateway. `rate`: None until some node
    has told twice.
    """

    name: str
    node: str = ""
    policies: tuple[str, ...] = ()
    total: Total
    rate: Rate | None


class Reading(msgspec.Struct, frozen=True):
    """The busiest first. `policy`: of all nodes' pods; `slot`: what came to each gateway for an egress IP, by
    the tunnel; `node`: both, of each node, and its drops of whatever policy.
    """

    policy: tuple[Line, ...]
    slot: tuple[Line, ...]
    node: tuple[Line, ...]


class _Key(msgspec.Struct, frozen=True, order=True):
    by: By
    name: str
    node: str = ""


def hear(board: Mapping[str, Heard], told: Told) -> dict[str, Heard]:
    """What is known, with one more Stats. The same one again (a bus read anew) changes nothing."""
    before = board.get(told.stats.node)
    if before is not None and before.latest.time_ns == told.time_ns and before.latest.stats == told.stats:
        return dict(board)
    heard = Heard(told, before.latest if before else None)
    return {**board, told.stats.node: heard}


def read(board: Mapping[str, Heard], now_s: float) -> Reading:
    """All that is known at `now_s`, of the clock of `arrived_s`."""
    totals: dict[_Key, list[Total]] = {}
    rates: dict[_Key, list[Rate]] = {}
    for heard in board.values():
        for key, total, rate in _of_node(heard, now_s):
            totals.setdefault(key, []).append(total)
            rates.setdefault(key, []).extend([rate] if rate else [])
    policies = dict(_policies(board.values()))
    lines = [
        Line(
            name=key.name,
            node=key.node,
            policies=policies.get(key, ()),
            total=_sum(found),
            rate=_sum_of_rates(rates[key]) if rates[key] else None,
        )
        for key, found in totals.items()
    ]
    return Reading(
        *(_busiest(each for each, key in zip(lines, totals, strict=True) if key.by is by) for by in By)
    )


def is_known(board: Mapping[str, Heard], now_s: float) -> bool:
    """Whether every node that ever reported has a rate."""
    return bool(board) and all(_seconds(heard) or _is_quiet(heard, now_s) for heard in board.values())


def _of_node(heard: Heard, now_s: float) -> Iterator[tuple[_Key, Total, Rate | None]]:
    before = _counted(heard.earlier.stats) if heard.earlier else {}
    seconds = _seconds(heard)
    for key, now in _counted(heard.latest.stats).items():
        if _is_quiet(heard, now_s):
            yield key, now, Rate()
        else:
            yield key, now, _between(before.get(key, Total()), now, seconds) if seconds else None


def _counted(stats: reports.Stats) -> dict[_Key, Total]:
    of_policies = {_Key(By.POLICY, name): _of_policy(each) for name, each in stats.policies.items()}
    of_slots = {_slot(stats, each): Total(*_pair(each.arrived)) for each in stats.slots.values()}
    carried = _sum([*of_policies.values(), *of_slots.values()])
    of_node = msgspec.structs.replace(carried, drops=stats.drops)
    return {**of_policies, **of_slots, _Key(By.NODE, stats.node): of_node}


def _slot(stats: reports.Stats, each: reports.SlotTraffic) -> _Key:
    return _Key(By.SLOT, each.egress_ip, stats.node)


def _policies(board: Iterable[Heard]) -> Iterator[tuple[_Key, tuple[str, ...]]]:
    for heard in board:
        stats = heard.latest.stats
        yield from ((_slot(stats, each), each.policies) for each in stats.slots.values())


def _of_policy(each: reports.PolicyTraffic) -> Total:
    packets, bytes_ = (one + other for one, other in zip(_pair(each.steered), _pair(each.local), strict=True))
    return Total(packets, bytes_, each.connections, each.drops)


def _pair(traffic: reports.Traffic) -> tuple[int, int]:
    return traffic.packets, traffic.bytes


def _is_quiet(heard: Heard, now_s: float) -> bool:
    return now_s - heard.latest.arrived_s > QUIET_S


def _seconds(heard: Heard) -> float:
    """Between the last two Stats; 0 if that can't be said, as after a clock was set back."""
    if heard.earlier is None or not heard.earlier.time_ns or not heard.latest.time_ns:
        return 0.0
    return max(0.0, (heard.latest.time_ns - heard.earlier.time_ns) / 1e9)


def _between(before: Total, now: Total, seconds: float) -> Rate:
    return Rate(
        packets=_grown(before.packets, now.packets) / seconds,
        bits=8 * _grown(before.bytes, now.bytes) / seconds,
        connections=_grown(before.connections, now.connections) / seconds,
        drops={
            reason: grown / seconds
            for reason, number in now.drops.items()
            if (grown := _grown(before.drops.get(reason, 0), number))
        },
    )


def _grown(before: int, now: int) -> int:
    return now - before if now >= before else now


def _sum(totals: list[Total]) -> Total:
    return Total(
        packets=sum(each.packets for each in totals),
        bytes=sum(each.bytes for each in totals),
        connections=sum(each.connections for each in totals),
        drops=_sum_of_drops(each.drops for each in totals),
    )


def _sum_of_rates(rates: list[Rate]) -> Rate:
    return Rate(
        packets=sum(each.packets for each in rates),
        bits=sum(each.bits for each in rates),
        connections=sum(each.connections for each in rates),
        drops=_sum_of_drops(each.drops for each in rates),
    )


def _sum_of_drops(several: Iterable[Mapping[str, Number]]) -> dict[str, Number]:
    found: dict[str, Number] = {}
    for drops in several:
        for reason, number in drops.items():
            found[reason] = found[reason] + number if reason in found else number
    return found


def _busiest(lines: Iterable[Line]) -> tuple[Line, ...]:
    """By bits now, then by bytes ever, then by name."""
    return tuple(
        sorted(
            lines,
            key=lambda line: (-(line.rate.bits if line.rate else 0.0), -line.total.bytes, line.name),
        )
    )
