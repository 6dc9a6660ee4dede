"""Marks are spread over the mask's bits and nothing else, and come back."""

import pytest

from ebbgate_programmer.core import marks


def test_every_field_comes_back_from_its_mark_and_stays_inside_the_mask() -> None:
    for field in range(0x1000):
        mark = marks.mark_of(field)
        assert mark & marks.MASK == mark
        assert marks.field_of(mark | marks.KEEP) == field


def test_slots_and_only_slots_have_a_slot_bit() -> None:
    assert all(bool(marks.mark_of(field) & marks.SLOT_BITS) == (field >= 16) for field in range(0x1000))


def test_one_rule_leads_steered_packets_and_replies_to_the_tunnel_and_no_others() -> None:
    led = [field for field in range(0x1000) if marks.mark_of(field) & marks.TUNNEL_MASK == marks.STEER]
    assert led == [marks.STEER, marks.REPLY]


@pytest.mark.parametrize("others", [0xC000, 0xFFFF0000, 0x80, 0x2000])
def test_the_mask_leaves_known_users_of_marks_alone(others: int) -> None:
    assert marks.MASK & others == 0


@pytest.mark.parametrize("field", [-1, 0x1000])
def test_a_number_of_more_than_twelve_bits_is_refused(field: int) -> None:
    with pytest.raises(ValueError, match="12 bits"):
        marks.mark_of(field)
