"""Rates: never negative, sums of the nodes', and times the seconds between what was counted in them."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from ebbgate_bus.contracts import reports
from ebbgate_bus.contracts.reports import PolicyTraffic, SlotTraffic, Stats
from ebbgate_cli import traffic
from tests.properties import examples

NUMBERS = st.integers(0, 2**63)
TRAFFIC = st.builds(reports.Traffic, NUMBERS, NUMBERS)
DROPS = st.dictionaries(st.sampled_from(["route", "no_gateway", "unrouted"]), NUMBERS)
POLICY = st.builds(PolicyTraffic, steered=TRAFFIC, local=TRAFFIC, connections=NUMBERS, drops=DROPS)
SLOT = st.builds(SlotTraffic, egress_ip=st.sampled_from(["192.0.2.1", "192.0.2.2"]), arrived=TRAFFIC)
STATS = st.builds(
    Stats,
    node=st.sampled_from(["a", "b"]),
    policies=st.dictionaries(st.sampled_from(["p", "q"]), POLICY),
    slots=st.dictionaries(st.sampled_from(["77"]), SLOT),
    drops=DROPS,
)
TOLD = st.builds(traffic.Told, STATS, st.integers(0, 2**62), st.floats(0, 1000))


@settings(max_examples=examples.count(100))
@given(st.lists(TOLD, max_size=6), st.floats(0, 2000))
def test_no_rate_is_negative_and_totals_are_what_the_nodes_said_last(
    told: list[traffic.Told], now: float
) -> None:
    board: dict[str, traffic.Heard] = {}
    for each in told:
        board = traffic.hear(board, each)
    reading = traffic.read(board, now)
    for line in (*reading.policy, *reading.slot, *reading.node):
        if line.rate is not None:
            numbers = (line.rate.packets, line.rate.bits, line.rate.connections, *line.rate.drops.values())
            assert all(number >= 0 and math.isfinite(number) for number in numbers)
    last = {each.stats.node: each.stats for each in told}
    for line in reading.policy:
        of_policy = [stats.policies[line.name] for stats in last.values() if line.name in stats.policies]
        assert line.total.packets == sum(each.steered.packets + each.local.packets for each in of_policy)
    assert {line.name for line in reading.node} == last.keys()


@settings(max_examples=examples.count(100))
@given(st.integers(0, 2**40), st.integers(0, 2**40), st.integers(1, 3600))
def test_a_rate_times_its_seconds_is_what_was_counted(before: int, more: int, seconds: int) -> None:
    board: dict[str, traffic.Heard] = {}
    for number, at in ((before, 1), (before + more, 1 + seconds)):
        stats = Stats(node="a", policies={"p": PolicyTraffic(steered=reports.Traffic(number, number))})
        board = traffic.hear(board, traffic.Told(stats, at * 10**9, 1.0))
    [line] = traffic.read(board, 1.0).policy
    assert line.rate is not None
    assert math.isclose(line.rate.packets * seconds, more, rel_tol=1e-9, abs_tol=1e-6)
