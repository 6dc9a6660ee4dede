"""Elements by plain netlink, against what `nft` itself writes and reads."""

import pathlib
import re
import subprocess
from collections.abc import Iterator

import pytest

from ebbgate_lab import namespaces
from ebbgate_programmer.core import changes, firewall, firewall_reading, kernelstate
from ebbgate_programmer.io import hints, kernel, netlink, nft, nftsets
from tests.kernel import rig as rigs

NETNS = f"{rigs.prefix('t')}sets"


@pytest.fixture
def tables() -> Iterator[None]:
    """Our tables, empty, in a namespace that this thread is in."""
    subprocess.run(["ip", "netns", "add", NETNS], check=True)
    try:
        with namespaces.entered(NETNS):
            nft.apply(firewall.rebuild(firewall.chains(19021), kernelstate.KernelState()))
            yield
    finally:
        subprocess.run(["ip", "netns", "del", NETNS], check=True)
        assert not pathlib.Path("/run/netns", NETNS).exists()


def state(pods: int, slots: dict[int, str]) -> kernelstate.KernelState:
    return kernelstate.KernelState(
        covered=frozenset(
            [
                *(f"10.244.{n >> 8}.{n & 255}" for n in range(pods)),
                *(f"fd00::{n + 1:x}" for n in range(min(pods, 3))),
            ]
        ),
        egress=slots,
        uplinks={slot: 5 + slot % 11 for slot in slots if slot % 2},
    )


def changed(before: kernelstate.KernelState, after: kernelstate.KernelState) -> None:
    nftsets.update(*firewall.elements_between(before, after))


def as_nft_reads_it() -> firewall_reading.Read:
    return firewall_reading.parse(rigs.nft_objects())


@pytest.mark.usefixtures("tables")
def test_nft_reads_what_was_written_by_netlink() -> None:
    empty, full = state(0, {}), state(2500, {16: "10.0.0.1", 17: "2001:db8::1", 4095: "10.0.0.2"})
    other = state(7, {16: "10.0.0.9", 19: "2001:db8::2"})
    for before, after in ((empty, full), (full, other), (other, empty)):
        changed(before, after)
        read = as_nft_reads_it()
        assert (read.covered, read.egress, read.uplinks) == (after.covered, after.egress, after.uplinks)
        assert not any("disagree" in line for line in read.chains)
        assert (nftsets.covered(), nftsets.egress(), nftsets.uplinks()) == (
            after.covered,
            after.egress,
            after.uplinks,
        )


@pytest.mark.usefixtures("tables")
def test_single_pods_are_asked_for() -> None:
    full = state(5, {})
    changed(state(0, {}), full)
    assert set(nftsets.covered_of([*full.covered, "10.9.9.9", "fd00::9"])) == full.covered
    nft.apply("delete element ip ebbgate_guard covered { 10.244.0.1 }")
    assert nftsets.covered_of(["10.244.0.2"]) == ["10.244.0.2"]
    with pytest.raises(nftsets.Disagreeing):
        nftsets.covered_of(["10.244.0.1"])


@pytest.mark.usefixtures("tables")
async def test_our_own_transactions_are_no_hints_and_others_are() -> None:
    listening = hints.Hints(lambda: None)
    try:
        changed(state(0, {}), state(100, {16: "10.0.0.1"}))
        assert not listening.drain()
        nft.apply("add element ip ebbgate covered { 10.9.9.9 }")
        assert listening.drain()
        nft.apply("add table ip others")
        assert not listening.drain()
    finally:
        listening.close()


@pytest.mark.usefixtures("tables")
def test_netlink_reads_what_nft_wrote() -> None:
    full = state(3, {16: "10.0.0.1", 17: "2001:db8::1"})
    nft.apply(firewall.update(*firewall.elements_between(state(0, {}), full)))
    for held in firewall.elements(full):
        if nftsets.takes([held]):
            assert nftsets.read(held.place) == nftsets.binary(held)


@pytest.mark.usefixtures("tables")
def test_a_refused_transaction_changes_nothing() -> None:
    absent = firewall.Elements("ip", "ebbgate", "covered", ("10.9.9.9",))
    good = firewall.Elements("ip", "ebbgate", "covered", ("10.1.1.1",))
    with pytest.raises(nftsets.Refused, match="No such file"):
        nftsets.update([absent], [good])
    assert as_nft_reads_it().covered == frozenset()


LEFT = ("ip", "ebbgate_guard", "left")


@pytest.fixture
def hands(tables: None, tmp_path: pathlib.Path) -> Iterator[kernel.Kernel]:
    made = kernel.Kernel(tmp_path, rigs.OBJECT)
    yield made
    made.close()


def moved(hands: kernel.Kernel, before: int, after: int) -> None:
    """From so many pods to so many."""
    hands.apply(changes.UpdateSets(*firewall.elements_between(state(before, {}), state(after, {}))))


def filled(count: int) -> None:
    """`left`, with pods of others."""
    others = tuple(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(count))
    nftsets.update([], [firewall.Elements(*place, others) for place in (LEFT, ("ip", "ebbgate", "left"))])


def test_pods_that_go_are_known_for_days_each_time_anew(hands: kernel.Kernel, tmp_path: pathlib.Path) -> None:
    moved(hands, 0, 2)
    moved(hands, 2, 1)
    assert nftsets.read(LEFT) == {(netlink.packed("10.244.0.1"), b"")}
    assert re.search(r"10\.244\.0\.1 expires (5d|4d23h59m)", nft_says("list", "set", *LEFT))
    nft.apply(f"delete element {' '.join(LEFT)} {{ 10.244.0.1 }}")
    nft.apply(f"add element {' '.join(LEFT)} {{ 10.244.0.1 timeout 1h }}")
    for _ in range(2):
        moved(hands, 1, 2)
        assert re.search(r"10\.244\.0\.1 timeout 1h expires (1h|59m)", nft_says("list", "set", *LEFT))
        moved(hands, 2, 1)  # again on the same day, as far as this programmer knows
    later = kernel.Kernel(tmp_path, rigs.OBJECT)
    moved(later, 1, 2)
    moved(later, 2, 1)
    later.close()
    assert re.search(r"10\.244\.0\.1 expires (5d|4d23h59m)", nft_says("list", "set", *LEFT))


def test_many_pods_that_go_are_known_anew_too(hands: kernel.Kernel, tmp_path: pathlib.Path) -> None:
    later = kernel.Kernel(tmp_path, rigs.OBJECT)
    for programmer in (hands, later):
        moved(programmer, 0, 1000)
        moved(programmer, 1000, 0)
    later.close()
    assert len(nftsets.read(LEFT)) == 1000


def test_pods_that_went_are_known_after_the_tables_were_made_anew(hands: kernel.Kernel) -> None:
    moved(hands, 0, 3)
    moved(hands, 3, 1)
    before = nftsets.read(LEFT)
    for damage in ("", "delete table ip ebbgate_guard\n", "delete table ip ebbgate\n", "flush ruleset\n"):
        nft.apply(damage)
        hands.apply(changes.SetFirewall(firewall.chains(19021), state(1, {})))
        assert nftsets.read(LEFT) == before
    assert nftsets.covered() == state(1, {}).covered


def test_no_change_waits_for_room_among_those_that_went(
    hands: kernel.Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    moved(hands, 0, 1)
    filled(firewall.MAX_ENDPOINTS)
    moved(hands, 1, 0)
    assert nftsets.covered() == set()
    assert [record.message for record in caplog.records] == ["left.full"]


def test_the_last_that_went_are_remembered_as_far_as_there_is_room(hands: kernel.Kernel) -> None:
    filled(firewall.MAX_ENDPOINTS)
    moved(hands, 0, 2)
    moved(hands, 2, 1)
    hands.apply(changes.SetFirewall(firewall.chains(19021), state(1, {})))
    assert len(nftsets.read(LEFT)) == firewall.MAX_ENDPOINTS
    assert (netlink.packed("10.244.0.1"), b"") in nftsets.read(LEFT)


def test_what_is_refused_for_another_reason_is_refused(hands: kernel.Kernel) -> None:
    with pytest.raises(kernel.Refused, match="No such file"):
        moved(hands, 1, 0)


def nft_says(*words: str) -> str:
    return subprocess.run(["nft", *words], check=True, capture_output=True, text=True).stdout


def test_interval_sets_are_left_to_nft() -> None:
    assert not nftsets.takes([firewall.Elements("ip", "ebbgate", "cluster", ("10.0.0.0/8",))])
