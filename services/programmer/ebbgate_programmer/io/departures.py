"""The sets of pods that were covered (`places.LEFT`), one in each table, which the kernel empties by time.

What comes into it is written by `core/firewall`; here is what only the kernel knows: who is in it. Where it
doesn't say, nobody is: no guard waits for that.
"""

import contextlib
import errno
import itertools
import math
import os
import time
from collections.abc import Iterable, Iterator

from ebbgate_programmer.core import firewall, places
from ebbgate_programmer.io import netlink, nftsets

FRESH_S = 86_400.0
"""Who goes again within so long keeps the time that it had: one of its days may be missing."""
MANY = 256
"""Pods; of more of them it is quicker to read the whole set."""


class Departures:
    """Remembers who went, too: with a table that somebody takes away goes what the kernel knew, and who goes
    again soon needn't be written again.
    """

    def __init__(self) -> None:
        self._went_s: dict[str, dict[str, float]] = {family: {} for family in places.NFT_FAMILIES}

    def lacking(self, added: Iterable[firewall.Elements]) -> tuple[firewall.Elements, ...]:
        """`added` without those whose time has just begun."""
        fresh_s = time.monotonic() - FRESH_S
        return tuple(held for each in added if (held := self._lacking(each, fresh_s)).elements)

    def _lacking(self, held: firewall.Elements, fresh_s: float) -> firewall.Elements:
        if held.name != places.LEFT:
            return held
        went_s = self._went_s[held.family]
        pods = (pod for pod in held.elements if went_s.get(pod, -math.inf) < fresh_s)
        return firewall.Elements(*held.place, tuple(pods))

    def note(self, added: Iterable[firewall.Elements], *, written: bool) -> None:
        """`written`: they are in the kernel; else they are to be, once there is room."""
        now_s = time.monotonic() if written else -math.inf
        for held in added:
            if held.name == places.LEFT:
                went_s = self._went_s[held.family]
                for pod in held.elements:
                    went_s.pop(pod, None)
                    went_s[pod] = now_s
                for pod in tuple(itertools.islice(went_s, max(0, len(went_s) - firewall.MAX_ENDPOINTS))):
                    del went_s[pod]

    def all_(self) -> tuple[firewall.Elements, ...]:
        """To be put back when the tables are made anew; their time begins again then."""
        return tuple(held for family in self._went_s for held in self._of(family) if held.elements)

    def _of(self, family: str) -> Iterator[firewall.Elements]:
        tables = [(family, table, places.LEFT) for ip, table in firewall.TABLES if ip == family]
        pods = dict.fromkeys((*self._went_s[family], *(pod for place in tables for pod in _read(place))))
        for place in tables:
            yield firewall.Elements(*place, tuple(pods)[: firewall.MAX_ENDPOINTS])


def known(added: Iterable[firewall.Elements]) -> tuple[firewall.Elements, ...]:
    """Those of `added` that are in it: unless they go first, in the same transaction, their time goes on."""
    found = (_known(held) for held in added if held.name == places.LEFT)
    return tuple(held for held in found if held.elements)


def without(added: Iterable[firewall.Elements]) -> tuple[firewall.Elements, ...]:
    return tuple(held for held in added if held.name != places.LEFT)


def is_full(refused: Exception) -> bool:
    """A set is: maybe this one."""
    return os.strerror(errno.ENFILE) in str(refused)


def _known(held: firewall.Elements) -> firewall.Elements:
    there = _read(held.place) if len(held.elements) > MANY else _asked(held)
    return firewall.Elements(*held.place, tuple(frozenset(there) & frozenset(held.elements)))


def _asked(held: firewall.Elements) -> Iterator[str]:
    with contextlib.suppress(netlink.Refused):
        yield from nftsets.held(held.place, held.elements)


def _read(place: tuple[str, str, str]) -> Iterator[str]:
    with contextlib.suppress(netlink.Refused):
        yield from (nftsets.text(key) for key, _ in nftsets.read(place))
