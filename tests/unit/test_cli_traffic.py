"""Rates out of what nodes counted, and how `ebbgate top` shows them."""

import json

import msgspec
import pytest

from ebbgate_bus.contracts import reports
from ebbgate_bus.contracts.reports import PolicyTraffic, SlotTraffic, Stats
from ebbgate_cli import top, traffic
from ebbgate_cli.traffic import By, Heard, Told

SECOND = 1_000_000_000


def stats(node: str = "node1", packets: int = 10, **drops: int) -> Stats:
    of_policy = PolicyTraffic(
        steered=reports.Traffic(packets, packets * 100),
        local=reports.Traffic(1, 50),
        connections=packets // 10,
        drops=drops,
    )
    return Stats(node=node, policies={"p": of_policy}, drops={**drops, "unknown_peer": 3})


GATEWAY = Stats(
    node="node2",
    slots={
        "77": SlotTraffic(egress_ip="192.0.2.1", policies=("p", "q"), arrived=reports.Traffic(7, 700)),
        "78": SlotTraffic(egress_ip="192.0.2.2"),
    },
)


def board(*told: tuple[Stats, float]) -> dict[str, Heard]:
    """Of Stats at seconds of both clocks, which begin at 1."""
    found: dict[str, Heard] = {}
    for each, second in told:
        found = traffic.hear(found, Told(each, int((1 + second) * SECOND), 1 + second))
    return found


def test_a_node_that_told_once_has_totals_and_no_rate() -> None:
    [line] = traffic.read(board((stats(), 0)), 1).policy
    assert (line.total.packets, line.total.bytes, line.total.connections) == (11, 1050, 1)
    assert line.rate is None


def test_a_rate_is_the_difference_by_the_time_between() -> None:
    reading = traffic.read(board((stats(packets=10), 0), (stats(packets=60, route=5), 5)), 6)
    assert reading.policy[0].rate == traffic.Rate(10.0, 8000.0, 1.0, {"route": 1.0})
    assert reading.node[0].rate == traffic.Rate(10.0, 8000.0, 1.0, {"route": 1.0})
    assert reading.node[0].total.drops == {"route": 5, "unknown_peer": 3}


def test_a_counter_that_shrank_began_anew() -> None:
    [line] = traffic.read(board((stats(packets=1000), 0), (stats(packets=20), 5)), 6).policy
    assert line.rate is not None
    assert (line.rate.packets, line.rate.connections) == (4.2, 0.4)


def test_a_silent_node_has_no_traffic() -> None:
    known = board((stats(packets=10), 0), (stats(packets=60), 5))
    assert traffic.read(known, 6 + traffic.QUIET_S).policy[0].rate != traffic.Rate()
    assert traffic.read(known, 6.1 + traffic.QUIET_S).policy[0].rate == traffic.Rate()


@pytest.mark.parametrize("second", [0, -3])
def test_a_clock_that_stood_or_went_back_makes_no_rate(second: float) -> None:
    assert traffic.read(board((stats(packets=1), 0), (stats(packets=2), second)), 2).policy[0].rate is None


def test_a_message_without_time_makes_no_rate() -> None:
    known = traffic.hear({}, Told(stats(packets=1), 0, 1.0))
    known = traffic.hear(known, Told(stats(packets=2), 5 * SECOND, 2.0))
    assert traffic.read(known, 3).policy[0].rate is None


def test_the_same_message_read_again_changes_nothing() -> None:
    once = board((stats(packets=10), 0), (stats(packets=60), 5))
    again = traffic.hear(once, Told(stats(packets=60), 6 * SECOND, 9.0))
    assert traffic.read(again, 9) == traffic.read(once, 9)


def test_a_policy_is_the_sum_of_its_nodes_and_unknown_rates_are_left_out() -> None:
    known = board((stats("node1", 10), 0), (stats("node1", 60), 5), (stats("node3", 100), 5))
    [line] = traffic.read(known, 6).policy
    assert line.total.packets == 162
    assert line.rate is not None
    assert line.rate.packets == 10.0


def test_a_slot_is_known_by_its_egress_ip_and_gateway() -> None:
    first, second = traffic.read(board((GATEWAY, 0)), 1).slot
    assert (first.name, first.node, first.policies) == ("192.0.2.1", "node2", ("p", "q"))
    assert (first.total.packets, second.total.packets) == (7, 0)


def test_the_busiest_comes_first() -> None:
    told = [Stats(node=name, policies={name: PolicyTraffic(steered=reports.Traffic(1, n))}) for name, n in
            (("a", 5), ("b", 9), ("c", 9))]  # fmt: skip
    assert [line.name for line in traffic.read(board(*((each, 0) for each in told)), 1).policy] == [
        "b",
        "c",
        "a",
    ]


def test_all_rates_are_known_when_every_node_told_twice_or_is_silent() -> None:
    assert not traffic.is_known({}, 100)
    one = board((stats("node1"), 0))
    assert not traffic.is_known(one, 1)
    assert traffic.is_known(one, 1.1 + traffic.QUIET_S)
    assert traffic.is_known(board((stats("node1"), 0), (stats("node1", 11), 5)), 6)


def test_sections_on_paper() -> None:
    known = board((stats(packets=10), 0), (stats(packets=60, route=5), 5), (GATEWAY, 5))
    assert top.text(traffic.read(known, 6), None) == (
        "POLICY   PACKETS/S   BIT/S   PACKETS   BYTES   NEW CONN/S   CONNECTIONS   DROPS/S   DROPPED\n"
        "p        10          8000    61        6050    1            6             1 route   5 route\n"
        "\n"
        "EGRESS IP   GATEWAY   POLICIES   PACKETS/S   BIT/S   PACKETS   BYTES\n"
        "192.0.2.1   node2     p,q        -           -       7         700\n"
        "192.0.2.2   node2     none       -           -       0         0\n"
        "\n"
        "NODE    PACKETS/S   BIT/S   PACKETS   BYTES   NEW CONN/S   CONNECTIONS   DROPS/S   DROPPED\n"
        "node1   10          8000    61        6050    1            6             1 route   "
        "5 route, 3 unknown_peer\n"
        "node2   -           -       7         700     -            0             -         none"
    )
    assert top.text(traffic.read(known, 6), By.SLOT).startswith("EGRESS IP")


def test_json_is_one_line_with_numbers() -> None:
    reading = traffic.read(board((stats(packets=10), 0), (stats(packets=60), 5), (GATEWAY, 5)), 6)
    line = top.as_json(reading, "2026-01-01T00:00:00.000+00:00")
    assert "\n" not in line
    read = json.loads(line)
    assert read["time"] == "2026-01-01T00:00:00.000+00:00"
    assert read["policies"][0] == {
        "name": "p",
        "per_second": {"packets": 10.0, "bits": 8000.0, "connections": 1.0, "drops": {}},
        "total": {"packets": 61, "bytes": 6050, "connections": 6, "drops": {}},
    }
    assert read["egress_ips"][0] | {"total": 0} == {
        "egress_ip": "192.0.2.1", "gateway": "node2", "policies": ["p", "q"], "per_second": None, "total": 0,
    }  # fmt: skip
    assert [each["name"] for each in read["nodes"]] == ["node1", "node2"]
    assert msgspec.json.decode(line) == read


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (0.44, "0.4"), (9.96, "10"), (12.5, "12"), (9999, "9999"), (10_000, "10k"), (12_345, "12.3k"),
     (999_499, "999k"), (999_600, "1M"), (1.234e9, "1.23G"), (5e18, "5e+03P")],
)  # fmt: skip
def test_amounts_are_short(number: float, text: str) -> None:
    assert top.amount(number) == text
