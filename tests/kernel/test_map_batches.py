"""Entries in batches, against a real map that is too small: those refused are named, all others are there."""

import os
import struct
from collections.abc import Iterator

import pytest

from ebbgate_programmer.io import bpf

_MAP_CREATE, _HASH, _LPM_TRIE, _NO_PREALLOC = 0, 1, 11, 1
ROOM = 3
FULL = {_HASH: "write to a map: Argument list too long", _LPM_TRIE: "write to a map: No space left on device"}


def _pair(number: int, value: int = 7) -> bpf.Pair:
    """A key of 8 bytes: as a trie has it, 32 bits of prefix."""
    return struct.pack("=II", 32, number), struct.pack("=I", value)


@pytest.fixture(params=[_HASH, _LPM_TRIE], ids=["hash", "trie"])
def small(request: pytest.FixtureRequest, _machine: None) -> Iterator[tuple[int, int]]:
    """A map's type and descriptor."""
    attributes = struct.pack("=IIIII", request.param, 8, 4, ROOM, _NO_PREALLOC)
    descriptor = bpf.call(_MAP_CREATE, attributes, "make a map")
    yield request.param, descriptor
    os.close(descriptor)


@pytest.fixture(params=[True, False], ids=["batches", "no batches"])
def _batches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr(bpf, "write_batch", lambda *_: 0)


@pytest.mark.usefixtures("_batches")
def test_what_has_no_room_is_named_and_what_comes_after_it_is_written(small: tuple[int, int]) -> None:
    kind, descriptor = small
    pairs = [_pair(1), _pair(2), _pair(3), _pair(4), _pair(5), _pair(2, 8)]
    assert bpf.put_all(descriptor, pairs) == [(3, FULL[kind]), (4, FULL[kind])]
    assert bpf.entries(descriptor) == dict([_pair(1), _pair(2, 8), _pair(3)])


@pytest.mark.usefixtures("_batches")
def test_absent_keys_are_no_error_and_those_after_them_go(small: tuple[int, int]) -> None:
    _, descriptor = small
    assert bpf.put_all(descriptor, [_pair(1), _pair(2), _pair(3)]) == []
    bpf.remove_all(descriptor, [_pair(number)[0] for number in (1, 9, 3)])
    assert bpf.entries(descriptor) == dict([_pair(2)])
    bpf.remove_all(descriptor, [])


def test_a_descriptor_that_is_no_map_refuses_each_entry_alone(small: tuple[int, int]) -> None:
    del small
    with open(os.devnull) as other:
        refusals = bpf.put_all(other.fileno(), [_pair(1), _pair(2)])
    assert [place for place, _ in refusals] == [0, 1]
