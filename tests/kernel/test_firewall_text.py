"""The nft text is taken by the real nft, and read back as what was written."""

import pathlib
from collections.abc import Iterator

import msgspec
import pytest

from ebbgate_lab import topology
from ebbgate_programmer.core import firewall, firewall_reading
from ebbgate_programmer.core.kernelstate import KernelState
from ebbgate_programmer.io import nft, nfttables
from tests.kernel import rig as rigs

CHAINS = firewall.chains(19021)
GOLDEN = pathlib.Path(__file__).with_name("firewall.nft")
FULL = KernelState(
    chains=firewall.signature(CHAINS),
    covered=frozenset({"10.244.1.10", "10.244.1.11", "fd00::10"}),
    cluster=frozenset({"10.244.0.0/16", "10.168.60.11/32", "10.0.1.0/24", "10.0.2.0/23", "fd00::/48"}),
    egress={16: "10.168.60.100", 17: "2001:db8::100", 4095: "10.168.60.101"},
    uplinks={17: 5, 4095: 15},
)
OTHER = msgspec.structs.replace(
    FULL,
    covered=frozenset({"10.244.1.11", "fd00::11"}),
    cluster=frozenset({"10.0.0.0/8", "fd00::/47"}),
    egress={16: "10.168.60.102", 17: "2001:db8::101", 200: "10.168.60.100"},
    uplinks={17: 6, 200: 5},
)


@pytest.fixture
def _namespace(_machine: None) -> Iterator[None]:
    lab = topology.Topology(rigs.prefix("n"), hosts=topology.HOSTS[1:2], pods=())
    lab.make()
    with lab.entered("node1"):
        yield
    lab.remove()


def _read() -> KernelState:
    """By netlink; nft says the same."""
    by_netlink = firewall_reading.parse(list(nfttables.objects(nfttables.read())))
    assert by_netlink == firewall_reading.parse(rigs.nft_objects())
    read = msgspec.structs.asdict(by_netlink)
    assert set(read.pop("guards")) == {"invalid", "unseen", "elsewhere", "unrouted", "source", "untranslated"}
    return KernelState(**read)


@pytest.mark.usefixtures("_namespace")
def test_the_golden_text_is_what_is_written_and_nft_takes_it() -> None:
    text = firewall.rebuild(CHAINS, FULL)
    assert text == GOLDEN.read_text(), "after a wanted change: write the text to firewall.nft"
    assert nft.check(text) == ""


@pytest.mark.usefixtures("_namespace")
def test_what_was_written_is_read_back() -> None:
    nft.apply(firewall.rebuild(CHAINS, FULL))
    assert _read() == FULL


@pytest.mark.usefixtures("_namespace")
def test_sets_are_changed_in_one_transaction_also_where_intervals_overlap() -> None:
    nft.apply(firewall.rebuild(CHAINS, FULL))
    nft.apply(firewall.update(*firewall.elements_between(FULL, OTHER)))
    assert _read() == OTHER
    nft.apply(firewall.update(*firewall.elements_between(OTHER, FULL)))
    assert _read() == FULL


@pytest.mark.usefixtures("_namespace")
@pytest.mark.parametrize(
    "damage",
    [
        "flush chain ip ebbgate_guard leaving",
        "flush chain ip6 ebbgate_guard unseen",
        "add rule ip ebbgate steer accept",
        "insert rule ip ebbgate steer accept",
        "delete table ip ebbgate",
        "delete table ip6 ebbgate",
        "delete table ip ebbgate_guard",
        "delete table ip6 ebbgate_guard",
        "flush set ip ebbgate_guard leaving",
        "flush set ip ebbgate_guard covered",
        "flush set ip6 ebbgate cluster",
        "add element ip ebbgate_guard cluster { 0.0.0.0/5, 240.0.0.0/4 }",
        "add element ip6 ebbgate_guard cluster { ff00::/8 }",
        "add chain ip ebbgate stranger",
        "chain ip ebbgate passing { policy drop; }",
    ],
)
def test_damage_by_others_is_seen(damage: str) -> None:
    nft.apply(firewall.rebuild(CHAINS, FULL))
    nft.apply(damage + "\n")
    assert _read() != FULL


@pytest.mark.usefixtures("_namespace")
def test_a_script_that_nft_refuses_changes_nothing_and_says_why() -> None:
    nft.apply(firewall.rebuild(CHAINS, FULL))
    with pytest.raises(nft.Refused, match="nft: "):
        nft.apply("add element ip ebbgate covered { 10.9.9.9 }\nadd element ip ebbgate nowhere { 1.2.3.4 }\n")
    assert _read() == FULL


@pytest.mark.usefixtures("_namespace")
def test_removing_the_tables_twice_is_no_error() -> None:
    nft.apply(firewall.rebuild(CHAINS, FULL))
    for _ in range(2):
        nft.remove()
        assert rigs.nft_objects() == list(nfttables.objects(nfttables.read())) == []
