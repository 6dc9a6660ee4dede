"""What a step of a story expects, compared with what a world holds.

Leg: beside the walk, see `stories`. The meaning of each key is that of tests/stories/README.md. The Judge
remembers what was seen before, for the two keys that look back: `unchanged_rows` and `stable`.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from ebbgate_cli import world
from ebbgate_resolver.core import listing

Row = tuple[str, str, str, str]


class OfNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rows: list[Row]
    one_of_gateways: dict[str, list[str]] = {}
    stable: bool = False


class Expected(msgspec.Struct, frozen=True):
    nodes: dict[str, OfNode]
    rejected: frozenset[str]
    unchanged_rows: bool


class _Fixed(msgspec.Struct, frozen=True):
    rejected: list[str] = []
    unchanged_rows: bool = False


class _Seat(msgspec.Struct, frozen=True):
    """Where a source was when it last had rows, and what it was offered."""

    gateway: str
    offered: frozenset[str]


def parse(expect: dict[str, Any]) -> Expected:
    """Raises msgspec.ValidationError."""
    fixed = msgspec.convert(expect, _Fixed)
    nodes = {key: value for key, value in expect.items() if key not in ("rejected", "unchanged_rows")}
    return Expected(
        nodes=msgspec.convert(nodes, dict[str, OfNode]),
        rejected=frozenset(fixed.rejected),
        unchanged_rows=fixed.unchanged_rows,
    )


class Judge:
    """One for each playing of a story; `compare` after each step, in order."""

    def __init__(self) -> None:
        self._before: dict[str, set[Row]] = {}
        self._seats: dict[str, _Seat] = {}

    def compare(self, expected: Expected, stage: world.World) -> list[str]:
        """One line for each difference."""
        now = {node: _rows(stage.entries(node)) for node in stage.nodes | set(expected.nodes)}
        lines = _compare_rejected(expected.rejected, stage)
        for node, wanted in sorted(expected.nodes.items()):
            lines += _compare_node(node, wanted, now[node])
            lines += self._compare_seats(node, wanted, now[node])
        lines += _compare_gateways(now)
        if expected.unchanged_rows:
            for node, before in sorted(self._before.items()):
                lines += _compare_sets(node, before, now.get(node, set()), what="changed: ")
        self._before = {node: now[node] for node in stage.nodes}
        self._remember(expected, now)
        return lines

    def _compare_seats(self, node: str, wanted: OfNode, now: set[Row]) -> list[str]:
        if not wanted.stable:
            return []
        lines = []
        for source, gateway in sorted(_gateways(now).items()):
            seat = self._seats.get(source)
            offered = wanted.one_of_gateways.get(source)
            if seat is None or offered is None or gateway == seat.gateway:
                continue
            if seat.gateway in offered and gateway in seat.offered:
                lines.append(f"{node}: {source} moved from {seat.gateway} to {gateway}")
        return lines

    def _remember(self, expected: Expected, now: dict[str, set[Row]]) -> None:
        offers: dict[str, list[str]] = {}
        for wanted in expected.nodes.values():
            offers |= wanted.one_of_gateways
        for rows in now.values():
            for source, gateway in _gateways(rows).items():
                self._seats[source] = _Seat(gateway, frozenset(offers.get(source, [gateway])))


def _rows(entries: Iterable[listing.Entry]) -> set[Row]:
    return {(entry.source, entry.destination, entry.egress_ip, entry.gateway_ip) for entry in entries}


def _gateways(rows: Iterable[Row]) -> dict[str, str]:
    """Source → its gateway; exclusions have none."""
    return {row[0]: row[3] for row in rows if row[3] != listing.EXCLUDED}


def _compare_rejected(wanted: frozenset[str], stage: world.World) -> list[str]:
    rejected = stage.rejected()
    unexpected = sorted(rejected.keys() - wanted)
    return [f"policy {name!r} is rejected: {rejected[name]}" for name in unexpected] + [
        f"policy {name!r} is not rejected" for name in sorted(wanted - rejected.keys())
    ]


def _compare_node(node: str, wanted: OfNode, now: set[Row]) -> list[str]:
    exact = {row for row in wanted.rows if row[0] not in wanted.one_of_gateways}
    lines = _compare_sets(node, exact, {row for row in now if row[0] not in wanted.one_of_gateways})
    for source, offered in sorted(wanted.one_of_gateways.items()):
        alternatives = [row for row in wanted.rows if row[0] == source]
        lines += _compare_alternatives(node, alternatives, offered, {row for row in now if row[0] == source})
    return lines


def _compare_sets(node: str, wanted: set[Row], now: set[Row], what: str = "") -> list[str]:
    return [f"{node}: {what}missing row {_text(row)}" for row in sorted(wanted - now)] + [
        f"{node}: {what}extra row {_text(row)}" for row in sorted(now - wanted)
    ]


def _compare_alternatives(node: str, alternatives: list[Row], offered: list[str], now: set[Row]) -> list[str]:
    lines = [f"{node}: extra row {_text(row)}" for row in sorted(now - set(alternatives))]
    for source, destination in sorted({row[:2] for row in alternatives}):
        chosen = [row for row in alternatives if row in now and row[:2] == (source, destination)]
        if len(chosen) != 1:
            lines.append(
                f"{node}: {len(chosen)} rows for {source} to {destination}, not 1 of its alternatives"
            )
    used = {row[3] for row in now if row[3] != listing.EXCLUDED}
    if len(used) > 1 or not used <= set(offered):
        lines.append(f"{node}: gateways {sorted(used)} used, not one of {offered}")
    return lines


def _compare_gateways(now: dict[str, set[Row]]) -> list[str]:
    """In every step all nodes agree on the gateway of a source."""
    seen: dict[tuple[str, str], str] = {}
    lines = []
    for node, rows in sorted(now.items()):
        for row in sorted(rows):
            if seen.setdefault(row[:2], row[3]) != row[3]:
                lines.append(f"{node}: another gateway than other nodes list in {_text(row)}")
    return lines


def _text(row: Row) -> str:
    return f"[{', '.join(row)}]"
