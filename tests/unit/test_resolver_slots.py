"""Slots: kept while in PLAN, found by probing, reserved after they were freed."""

from ebbgate_bus.contracts import rows
from ebbgate_resolver.core.rules import slots

WISH = ("gw", "192.0.2.1")


def _held(*entries: tuple[int, str]) -> dict[slots.Place, rows.Egress]:
    return {("gw", slot): rows.Egress(egress_ip=ip) for slot, ip in entries}


def _first() -> int:
    return slots.assign([WISH], {}, {})[WISH]


def test_a_slot_is_within_its_limits_and_the_same_every_time() -> None:
    assert rows.SLOT_MIN <= _first() <= rows.SLOT_MAX
    assert slots.assign([("other", "192.0.2.1")], {}, {}) == {("other", "192.0.2.1"): _first()}


def test_a_held_slot_is_kept_wherever_it_is() -> None:
    assert slots.assign([WISH], _held((99, "192.0.2.1")), {}) == {WISH: 99}


def test_a_taken_or_reserved_slot_is_passed_by() -> None:
    following = rows.SLOT_MIN if _first() == rows.SLOT_MAX else _first() + 1
    assert slots.assign([WISH], _held((_first(), "192.0.2.2")), {})[WISH] == following
    for had in ("", "192.0.2.2"):
        assert slots.assign([WISH], {}, {("gw", _first()): had})[WISH] == following


def test_a_freed_slot_goes_back_to_the_egress_ip_that_it_had() -> None:
    assert slots.assign([WISH], {}, {("gw", _first()): "192.0.2.1"})[WISH] == _first()


def test_probing_wraps_and_ends_when_all_slots_are_taken() -> None:
    everything = range(rows.SLOT_MIN, rows.SLOT_MAX + 1)
    before = _first() - 1 if _first() > rows.SLOT_MIN else rows.SLOT_MAX
    assert slots.assign([WISH], _held(*((s, "x") for s in everything if s != before)), {}) == {WISH: before}
    assert slots.assign([WISH], _held(*((s, "x") for s in everything)), {}) == {}


def test_two_wishes_never_share_a_slot() -> None:
    wishes = [("gw", f"192.0.2.{i}") for i in range(256)]
    assert len(set(slots.assign(wishes, {}, {}).values())) == 256
