"""The programs in place on devices: by tcx links, or by filters under clsact where the kernel has no tcx.

Both replace a program in one step, outlive the programmer, and go with their device. tcx is the better one: a
link is nobody else's, and a filter goes when somebody clears the qdisc. The programs' codes mean the same to
both: -1 lets the next one look (TCX_NEXT, TC_ACT_UNSPEC), 2 drops (TCX_DROP, TC_ACT_SHOT).
"""

import errno
import os
import pathlib
from collections.abc import Collection, Iterable
from typing import Protocol

from ebbgate_programmer.core import places
from ebbgate_programmer.io import bpf, filters, objects

_GUARD, _TAKE = "guard", "take"


class Way(Protocol):
    """Of attaching the pinned programs. Devices are named by their index."""

    def is_attached(self, index: int) -> bool:
        """Whether encap and decap are in their places on this device."""

    def guarded(self) -> frozenset[int]:
        """The uplinks that both guard and take are at."""

    def attach(self, index: int) -> None:
        """Encap and decap; new ones replace old ones."""

    def detach(self, index: int) -> None: ...

    def guard(self, index: int) -> None:
        """Guard and take."""

    def unguard(self, kept: Collection[int]) -> None:
        """They are gone from all devices but these."""


class Attachments:
    """By one way: the wish's, for AUTO the kernel's. What the other one left is taken away.

    The same program twice would drop: the second sees a mark that the first has cleared. So the other way's
    go first; until ours are there ebbgate0 takes nothing, and nftables' guard stands alone.
    """

    def __init__(self, pins: objects.Pins, wish: str) -> None:
        ways: tuple[Way, Way] = (_Tcx(pins), _Clsact(pins))
        by_tcx = bpf.has_tcx() if wish == places.AUTO else wish == places.TCX
        self._way, self._other = ways if by_tcx else ways[::-1]

    def is_attached(self, index: int) -> bool:
        return self._way.is_attached(index)

    def guarded(self) -> frozenset[int]:
        return self._way.guarded()

    def attach(self, index: int) -> None:
        self._other.detach(index)
        self._way.attach(index)

    def guard(self, indexes: Iterable[int]) -> None:
        """To these devices, and to no others."""
        wanted = frozenset(indexes)
        self._other.unguard(())
        for index in sorted(wanted):
            self._way.guard(index)
        self._way.unguard(wanted)

    def remove(self) -> None:
        """No guards afterwards."""
        self._way.unguard(())
        self._other.unguard(())


class _Tcx:
    """Links, pinned as `encap_link`, `decap_link`, `guard_<index>_link`, `take_<index>_link`."""

    _PLACES = {"encap": bpf.TCX_EGRESS, "decap": bpf.TCX_INGRESS}
    _AT_UPLINKS = {_GUARD: bpf.TCX_EGRESS, _TAKE: bpf.TCX_INGRESS}

    def __init__(self, pins: objects.Pins) -> None:
        self._pins = pins

    def is_attached(self, index: int) -> bool:
        return all(
            _target(self._pins.link(name)) == (_id(self._pins, name), index, attach_type)
            for name, attach_type in self._PLACES.items()
        )

    def guarded(self) -> frozenset[int]:
        return frozenset.intersection(*map(self._with, self._AT_UPLINKS))

    def _with(self, name: str) -> frozenset[int]:
        number = _id(self._pins, name)
        targets = map(_target, self._pins.uplink_links(name))
        return frozenset(index for program, index, _ in targets if program == number and index)

    def attach(self, index: int) -> None:
        for name, attach_type in self._PLACES.items():
            self._link(self._pins.link(name), name, (index, attach_type))

    def detach(self, index: int) -> None:
        for name in self._PLACES:
            self._pins.link(name).unlink(missing_ok=True)

    def guard(self, index: int) -> None:
        for name, attach_type in self._AT_UPLINKS.items():
            self._link(self._pins.uplink_link(name, index), name, (index, attach_type))

    def unguard(self, kept: Collection[int]) -> None:
        for name in self._AT_UPLINKS:
            wanted = {self._pins.uplink_link(name, index) for index in kept}
            for pinned in set(self._pins.uplink_links(name)) - wanted:
                pinned.unlink()

    def _link(self, pinned: pathlib.Path, name: str, target: tuple[int, int]) -> None:
        """Into the link that is there, be it another layout's: no packet goes between."""
        with bpf.opened(self._pins.path(name)) as program:
            for place in (pinned, *self._pins.elsewhere(pinned.name)):
                if place.exists() and _exchange(place, program, target):
                    _move(place, pinned)
                    return
            # Its device is gone: the kernel let go of it, only the pin is left.
            pinned.unlink(missing_ok=True)
            link = bpf.create_link(program, *target)
            try:
                bpf.pin(link, pinned)
            finally:
                os.close(link)


class _Clsact:
    """Filters, which nothing is pinned of: they are read from the devices. Another layout's have the same
    place, and are replaced.
    """

    _PLACES = {"encap": filters.EGRESS, "decap": filters.INGRESS}
    _AT_UPLINKS = {_GUARD: filters.EGRESS, _TAKE: filters.INGRESS}

    def __init__(self, pins: objects.Pins) -> None:
        self._pins = pins

    def is_attached(self, index: int) -> bool:
        wanted = {(index, parent): _id(self._pins, name) for name, parent in self._PLACES.items()}
        return wanted.items() <= filters.read().items()

    def guarded(self) -> frozenset[int]:
        found = filters.read().items()
        numbers = [_id(self._pins, name) for name in self._AT_UPLINKS]
        return frozenset.intersection(
            *(frozenset(index for (index, _), program in found if program == number) for number in numbers)
        )

    def attach(self, index: int) -> None:
        for name, parent in self._PLACES.items():
            self._put((index, parent), name)

    def detach(self, index: int) -> None:
        for parent in self._PLACES.values():
            filters.remove((index, parent))

    def guard(self, index: int) -> None:
        for name, parent in self._AT_UPLINKS.items():
            self._put((index, parent), name)

    def unguard(self, kept: Collection[int]) -> None:
        own = {_id(self._pins, name) for name in self._PLACES}
        for place, program in filters.read().items():
            if place[0] not in kept and program not in own:
                filters.remove(place)

    def _put(self, place: tuple[int, int], name: str) -> None:
        with bpf.opened(self._pins.path(name)) as program:
            filters.put(place, program, f"ebbgate_{name}")


def _id(pins: objects.Pins, name: str) -> int:
    """Of the pinned program; 0 if there is none."""
    try:
        return pins.program_id(name)
    except bpf.Refused as error:
        if error.errno != errno.ENOENT:
            raise
        return 0


def _target(pinned: pathlib.Path) -> tuple[int, int, int]:
    """Zeros if no such link is pinned: they are no link's."""
    try:
        with bpf.opened(pinned) as link:
            return bpf.link_target(link)
    except bpf.Refused as error:
        if error.errno != errno.ENOENT:
            raise
        return 0, 0, 0


def _exchange(pinned: pathlib.Path, program: int, target: tuple[int, int]) -> bool:
    with bpf.opened(pinned) as link:
        if bpf.link_target(link)[1:] != target:
            return False
        bpf.update_link(link, program)
        return True


def _move(place: pathlib.Path, pinned: pathlib.Path) -> None:
    if place != pinned:
        with bpf.opened(place) as link:
            bpf.pin(link, pinned)
        place.unlink()
