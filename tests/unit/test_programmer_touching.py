"""Which parts of the kernel are read back after which changes."""

import pytest

from ebbgate_programmer.core import changes, firewall, kernelstate, touching
from ebbgate_programmer.core.touching import Part

EMPTY = kernelstate.KernelState()


def sets(*names: tuple[str, str]) -> changes.UpdateSets:
    """(family, set): of the main table."""
    held = tuple(firewall.Elements(family, "ebbgate", name, ("x",)) for family, name in names)
    return changes.UpdateSets(held[:1], held[1:])


@pytest.mark.parametrize(
    ("done", "parts"),
    [
        ((), set()),
        ((changes.Put(changes.Map.ENDPOINT, ()), sets(("ip", "covered"))), {Part.ENDPOINTS, Part.COVERED}),
        ((changes.Drop(changes.Map.ROUTE, ()), changes.Put(changes.Map.PATH, ())), {Part.ROUTES, Part.PATHS}),
        ((sets(("ip", "egress"), ("ip", "leaving"), ("ip", "zones")),), {Part.EGRESS}),
        ((sets(("ip6", "covered")), changes.Put(changes.Map.PEER, ())), {Part.COVERED, Part.PEERS}),
        ((sets(("ip6", "uplinks")), changes.Drop(changes.Map.EGRESS, ())), {Part.UPLINKS, Part.SOURCES}),
        ((changes.ForgetPods((), EMPTY, EMPTY),), set()),
    ],
)
def test_small_changes_touch_their_own_parts(done: tuple[changes.Change, ...], parts: set[Part]) -> None:
    assert touching.touched(done) == parts


@pytest.mark.parametrize(
    "far",
    [changes.SetFirewall((), EMPTY), sets(("ip", "covered"), ("ip", "cluster"))],
    ids=["firewall", "cluster"],
)
def test_what_reaches_further_has_everything_read(far: changes.Change) -> None:
    assert touching.touched((changes.Put(changes.Map.PATH, ()), far)) is None
