"""Numbers of the kernel become a policy's and a pod's."""

from ebbgate_bus.contracts import reports, rows
from ebbgate_programmer.core import layout, traffic

STEERED = layout.COUNTERS.index("steered")
NO_EGRESS_IP = layout.COUNTERS.index("drop_no_egress_ip")
NAMES = traffic.Names(
    policies={7: "p", 8: "p", 9: "q"},
    pods={"10.244.1.10": "default/a"},
    slots={77: rows.Egress(egress_ip="192.0.2.1", interface="eth0", policies=("p",))},
)
COUNTED = traffic.Counted(
    counters={"steered": 9, "drop_no_path": 1, "drop_unclassified": 2},
    groups={
        (7, STEERED): reports.Traffic(1, 100),
        (8, STEERED): reports.Traffic(2, 200),
        (7, layout.CONNECTIONS): reports.Traffic(5, 300),
        (9, NO_EGRESS_IP): reports.Traffic(4, 400),
        (1, STEERED): reports.Traffic(6, 600),
    },
    slots={77: reports.Traffic(3, 30)},
    guards={"unseen": 10, "source": 20, "untranslated": 1, "somebody's": 5},
    refused=2,
)


def test_both_families_of_a_policy_are_one() -> None:
    said = traffic.stats("node1", COUNTED, NAMES)
    assert said.policies["p"].steered == reports.Traffic(3, 300)
    assert said.policies["p"].connections == 5
    assert said.policies["q"].drops == {"no_egress_ip": 4}
    assert set(said.policies) == {"p", "q"}


def test_slots_are_named_by_their_egress_ip() -> None:
    slot = traffic.stats("node1", COUNTED, NAMES).slots["77"]
    assert (slot.egress_ip, slot.policies, slot.arrived) == ("192.0.2.1", ("p",), reports.Traffic(3, 30))


def test_drops_of_bpf_and_nft_and_conntrack_are_summed_by_reason() -> None:
    assert traffic.stats("node1", COUNTED, NAMES).drops == {
        "no_gateway": 1,
        "not_translated": 21,
        "ports_exhausted": 2,
        "unclassified": 12,
    }


def test_what_nobody_asks_for_any_more_is_stale() -> None:
    assert traffic.stale(COUNTED, NAMES) == [(1, STEERED)]


def test_nothing_counted_is_nothing_said() -> None:
    assert traffic.stats("node1", traffic.Counted(), traffic.Names()) == reports.Stats(node="node1")


def test_a_drop_is_told_with_pod_and_policy() -> None:
    told = layout.Told(9, "drop_no_egress_ip", 6, "10.244.1.10", "8.8.8.8", 40000, 443)
    assert traffic.dropped("node1", told, NAMES) == reports.Dropped(
        node="node1",
        reason="no_egress_ip",
        source="10.244.1.10",
        destination="8.8.8.8",
        protocol=6,
        source_port=40000,
        destination_port=443,
        pod="default/a",
        policy="q",
    )


def test_every_reason_of_the_kernel_has_a_word() -> None:
    drops = [name for name in layout.COUNTERS if name.startswith("drop_")]
    assert all(traffic.reason(name) in (reports.Dropped.__doc__ or "") for name in drops)
