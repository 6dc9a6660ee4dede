"""nft's text out and nft's JSON back, without nft."""

import msgspec
import pytest

from ebbgate_programmer.core import firewall, firewall_reading
from ebbgate_programmer.core.kernelstate import KernelState

CHAINS = firewall.chains(19021)
DISAGREEING = "ip: the guards' sets disagree with the others"
HELD = KernelState(
    covered=frozenset({"10.244.1.10"}), cluster=frozenset({"10.244.0.0/16"}), egress={16: "10.168.60.100"}
)


def _listing(**changed: object) -> list[dict[str, object]]:
    """What `nft -j list` says of both tables of IPv4, shortened to one chain with two rules.

    `changed`: sets of the guard's table.
    """
    of_pods: dict[str, object] = {
        "covered": ["10.244.1.10"],
        "cluster": [
            {"prefix": {"addr": "10.244.0.0", "len": 16}},
            {"range": ["10.9.0.0", "10.9.0.2"]},
            "10.1.1.1",
        ],
    }
    main = of_pods
    guard = of_pods | {"leaving": [{"concat": [16, "10.168.60.100"]}]} | changed
    objects: list[dict[str, object]] = [
        {"set": {"family": "ip", "table": table, "name": name, "size": 9, "elem": held}}
        for table, sets in (("ebbgate", main), ("ebbgate_guard", guard))
        for name, held in sets.items()
    ]
    main_table = {"family": "ip", "table": "ebbgate"}
    objects.append({"map": {**main_table, "name": "egress", "elem": [[16, "10.168.60.100"]]}})
    objects.append({"map": {**main_table, "name": "uplinks", "elem": [[16, 5]]}})
    objects.append({"map": {**main_table, "name": "zones", "elem": [[16, 40976]]}})
    hook = {"type": "filter", "hook": "prerouting", "prio": -90, "policy": "drop"}
    objects.append({"chain": {**main_table, "name": "steer", **hook}})
    objects.append({"chain": {**main_table, "name": "arriving"}})
    objects.append({"rule": {**main_table, "chain": "steer", "comment": "reply:01"}})
    objects.append({"rule": {**main_table, "chain": "steer"}})
    return objects


def test_what_nft_lists_is_read() -> None:
    read = firewall_reading.parse(_listing())
    assert read.covered == {"10.244.1.10"}
    assert read.cluster == {"10.244.0.0/16", "10.9.0.0/31", "10.9.0.2/32", "10.1.1.1/32"}
    assert read.egress == {16: "10.168.60.100"}
    assert read.uplinks == {16: 5}
    assert "ip ebbgate steer filter prerouting -90 drop" in read.chains
    assert "ip ebbgate arriving " in read.chains
    assert "ip ebbgate steer 00 reply:01" in read.chains
    assert "ip ebbgate steer 01 without comment" in read.chains
    assert DISAGREEING not in read.chains


@pytest.mark.parametrize("name", ["leaving", "covered", "cluster"])
def test_guards_that_disagree_with_the_main_table_are_seen(name: str) -> None:
    assert DISAGREEING in firewall_reading.parse(_listing(**{name: []})).chains


def test_no_table_is_an_empty_state() -> None:
    assert firewall_reading.parse([]) == firewall_reading.Read()


def test_a_rebuild_keeps_elements_and_holds_every_chain() -> None:
    text = firewall.rebuild(CHAINS, HELD)
    assert "add element ip ebbgate covered { 10.244.1.10 }" in text
    assert "add element ip ebbgate egress { 0x10 : 10.168.60.100 }" in text
    assert all(f"chain {chain.name} {{" in text for chain in CHAINS)
    assert text.index("delete table ip ebbgate") < text.index("chain steer {")


def test_an_update_takes_out_before_it_puts_in() -> None:
    moved = msgspec.structs.replace(HELD, egress={16: "10.168.60.101"})
    lines = firewall.update(*firewall.elements_between(HELD, moved)).splitlines()
    assert lines == [
        "delete element ip ebbgate egress { 0x10 : 10.168.60.100 }",
        "delete element ip ebbgate_guard leaving { 0x10 . 10.168.60.100 }",
        "add element ip ebbgate egress { 0x10 : 10.168.60.101 }",
        "add element ip ebbgate_guard leaving { 0x10 . 10.168.60.101 }",
    ]


def test_many_elements_are_given_in_several_commands() -> None:
    crowd = frozenset(f"10.244.{high}.{low}" for high in range(10) for low in range(250))
    removed, added = firewall.elements_between(KernelState(), KernelState(covered=crowd))
    assert not removed
    assert len(firewall.update(removed, added).splitlines()) == 2 * 3  # the main table and the guard's


def test_a_rules_comment_follows_its_text() -> None:
    assert firewall.comment("reply", "accept") != firewall.comment("reply", "drop")
    assert firewall.signature(CHAINS) != firewall.signature(firewall.chains(19022))
