"""Every reason of a drop has words and a hint, and each packet a line."""

import json
import pathlib
import string

import msgspec
import pytest

from ebbgate_bus.contracts.reports import Dropped
from ebbgate_cli import drops
from ebbgate_programmer.core import firewall, layout, places, traffic

DROP = Dropped(
    node="node1",
    reason="no_egress_ip",
    source="10.244.1.10",
    destination="192.0.2.1",
    protocol=17,
    source_port=4000,
    destination_port=9000,
    pod="default/mediabot",
    policy="sample",
)
DOCS = pathlib.Path(__file__).parents[2] / "docs/troubleshooting.md"


def reasons() -> set[str]:
    """All that a programmer may give: of its BPF programs, its guards, and of conntrack."""
    guards = {
        name: 1
        for chain in firewall.chains(places.PORT)
        for name, text in chain.rules
        if text.endswith("counter drop")
    }
    counters = dict.fromkeys(layout.COUNTERS, 1)
    counted = traffic.Counted(counters=counters, guards=guards, refused=1)
    assert len(guards) == 6
    return set(traffic.stats("n", counted, traffic.Names()).drops)


def test_every_reason_has_its_words_and_its_hint() -> None:
    assert reasons() == drops.REASONS.keys()
    for each in drops.REASONS.values():
        assert each.meaning
        assert each.hint
        assert {name for _, name, _, _ in string.Formatter().parse(each.hint) if name} <= {"policy", "node"}


def test_every_reason_is_explained_in_the_docs() -> None:
    text = DOCS.read_text()
    assert [reason for reason in drops.REASONS if f"| `{reason}` |" not in text] == []


def test_a_line_says_who_to_where_why_and_what_to_do() -> None:
    assert drops.line(DROP, "12:00:00.123") == (
        "12:00:00.123  node1  default/mediabot 10.244.1.10:4000 → 192.0.2.1:9000/udp  policy sample: "
        "the gateway has no egress IP of its family (no_egress_ip); ebbgate policies sample"
    )


def test_what_is_not_known_is_left_out() -> None:
    stranger = Dropped(node="n", reason="unknown_peer", source="fd00::1", destination="fd00::2", protocol=47)
    assert drops.line(stranger, "t").startswith("t  n  fd00::1 → fd00::2/protocol 47  a tunnel packet from")
    ports = msgspec.structs.replace(stranger, protocol=6, source_port=1, destination_port=2)
    assert "  [fd00::1]:1 → [fd00::2]:2/tcp  " in drops.line(ports, "t")
    unnamed = Dropped(node="n", reason="no_gateway", source="10.0.0.1", destination="10.0.0.2")
    assert drops.reason(unnamed).hint == "ebbgate policies"
    newer = Dropped(node="n", reason="new", source="10.0.0.1", destination="10.0.0.2")
    assert "doesn't know (new)" in drops.line(newer, "t")


@pytest.mark.parametrize(
    ("wanted", "has"),
    [
        (drops.Wanted(), True),
        (drops.Wanted(policy="sample", pod="default/mediabot", node="node1", reason="no_egress_ip"), True),
        (drops.Wanted(policy="other"), False),
        (drops.Wanted(pod="default/other"), False),
        (drops.Wanted(node="node2"), False),
        (drops.Wanted(reason="route"), False),
    ],
)
def test_what_is_wanted(wanted: drops.Wanted, has: bool) -> None:
    assert wanted.has(DROP) is has


def test_json_has_the_message_and_the_words() -> None:
    told = json.loads(drops.as_json(DROP, "2026-01-01T00:00:00.000+00:00"))
    assert told["hint"] == "ebbgate policies sample"
    assert (told["time"], told["destination_port"]) == ("2026-01-01T00:00:00.000+00:00", 9000)
