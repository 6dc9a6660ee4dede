"""Traffic on paper: sections of policies, egress IPs and nodes, the busiest first. Pure."""

import msgspec

from ebbgate_cli import columns, traffic
from ebbgate_cli.traffic import By, Line

_NUMBERS = ("PACKETS/S", "BIT/S", "PACKETS", "BYTES")
_CONNECTIONS = ("NEW CONN/S", "CONNECTIONS", "DROPS/S", "DROPPED")
HEADERS = {
    By.POLICY: ("POLICY", *_NUMBERS, *_CONNECTIONS),
    By.SLOT: ("EGRESS IP", "GATEWAY", "POLICIES", *_NUMBERS),
    By.NODE: ("NODE", *_NUMBERS, *_CONNECTIONS),
}
NOBODY = (
    "no node has reported traffic yet: each does within five seconds after the first packet that it steers, "
    "carries or drops; `ebbgate nodes` shows whether programmers run, "
    "`ebbgate policies` which policies are ready"
)
_UNKNOWN, _NONE = "-", "none"
_PREFIXES = ("", "k", "M", "G", "T", "P")


def text(reading: traffic.Reading, chosen: By | None) -> str:
    """One section, or all, an empty line between. Where a node has told only once there is no rate: `-`."""
    sections = [section(by, reading) for by in ([chosen] if chosen else By)]
    return "\n\n".join(columns.lay_out(header, lines) for header, lines in sections)


def section(by: By, reading: traffic.Reading) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    return HEADERS[by], [cells(by, line) for line in getattr(reading, by.value)]


def cells(by: By, line: Line) -> tuple[str, ...]:
    """A line under HEADERS[by]."""
    if by is By.SLOT:
        return (line.name, line.node, ",".join(line.policies) or _NONE, *_numbers(line))
    return (line.name, *_numbers(line), *_connections(line))


def _numbers(line: Line) -> tuple[str, ...]:
    rate, total = line.rate, line.total
    return (
        amount(rate.packets) if rate else _UNKNOWN,
        amount(rate.bits) if rate else _UNKNOWN,
        amount(total.packets),
        amount(total.bytes),
    )


def _connections(line: Line) -> tuple[str, ...]:
    rate, total = line.rate, line.total
    return (
        amount(rate.connections) if rate else _UNKNOWN,
        amount(total.connections),
        _drops(rate.drops) if rate else _UNKNOWN,
        _drops(total.drops),
    )


def _drops(drops: dict[str, int] | dict[str, float]) -> str:
    """The most first."""
    ordered = sorted(drops.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{amount(number)} {reason}" for reason, number in ordered) or _NONE


def amount(number: float) -> str:
    """Three digits or four: `0.4`, `12`, `4321`, `12.3k`, `1.23M`. Powers of 1000."""
    if number < 10:
        return f"{number:.1f}".removesuffix(".0")
    if number < 9999.5:
        return f"{number:.0f}"
    power = 0
    while number >= 999.5 and power < len(_PREFIXES) - 1:
        number, power = number / 1000, power + 1
    return f"{number:.3g}{_PREFIXES[power]}"


def as_json(reading: traffic.Reading, time: str) -> str:
    """On one line. `time`: of the reading."""
    return msgspec.json.encode(
        {
            "time": time,
            "policies": [_object(line) for line in reading.policy],
            "egress_ips": [_object(line, "egress_ip", "gateway") for line in reading.slot],
            "nodes": [_object(line) for line in reading.node],
        }
    ).decode()


def _object(line: Line, name: str = "name", node: str = "") -> dict[str, object]:
    rate = line.rate
    about = {name: line.name} | ({node: line.node, "policies": line.policies} if node else {})
    a_second = {
        "packets": round(rate.packets, 3),
        "bits": round(rate.bits, 3),
        "connections": round(rate.connections, 3),
        "drops": {reason: round(number, 3) for reason, number in rate.drops.items()},
    } if rate else None  # fmt: skip
    return about | {"per_second": a_second, "total": line.total}
