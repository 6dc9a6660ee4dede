"""The sets of pods that were covered (`places.LEFT`), one in each table, which the kernel empties by time.

What comes into it is written by `core/firewall`; here is what only the kernel knows: who is in it. Where it
doesn't say, nobody is: no guard waits for that.
"""

import contextlib
import errno
import itertools
import os
from collections.abc import Iterable, Iterator

from ebbgate_programmer.core import firewall, places
from ebbgate_programmer.io import netlink, nftsets

MANY = 256
"""Pods; of more of them it is quicker to read the whole set."""


class Departures:
    """Remembers who went, too: with a table that somebody takes away goes what the kernel knew."""

    def __init__(self) -> None:
        self._went: dict[str, dict[str, None]] = {family: {} for family in places.NFT_FAMILIES}

    def note(self, added: Iterable[firewall.Elements]) -> None:
        for held in added:
            if held.name == places.LEFT:
                went = self._went[held.family]
                for pod in held.elements:
                    went.pop(pod, None)
                    went[pod] = None
                for pod in tuple(itertools.islice(went, max(0, len(went) - firewall.MAX_ENDPOINTS))):
                    del went[pod]

    def all_(self) -> tuple[firewall.Elements, ...]:
        """To be put back when the tables are made anew; their time begins again then."""
        return tuple(held for family in self._went for held in self._of(family) if held.elements)

    def _of(self, family: str) -> Iterator[firewall.Elements]:
        tables = [(family, table, places.LEFT) for ip, table in firewall.TABLES if ip == family]
        pods = {**self._went[family], **dict.fromkeys(pod for place in tables for pod in _read(place))}
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
    return firewall.Elements(*held.place, tuple(sorted(frozenset(there) & frozenset(held.elements))))


def _asked(held: firewall.Elements) -> Iterator[str]:
    with contextlib.suppress(netlink.Refused):
        yield from nftsets.held(held.place, held.elements)


def _read(place: tuple[str, str, str]) -> Iterator[str]:
    with contextlib.suppress(netlink.Refused):
        yield from (nftsets.text(key) for key, _ in nftsets.read(place))
