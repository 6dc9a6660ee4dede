"""The guard's set of pods that were covered (`places.LEFT`), which the kernel empties by time.

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
_PLACES = tuple((family, places.NFT_GUARD, places.LEFT) for family in places.NFT_FAMILIES)


class Departures:
    """Remembers who went, too: with a table that somebody takes away goes what the kernel knew."""

    def __init__(self) -> None:
        self._went: dict[tuple[str, str, str], dict[str, None]] = {place: {} for place in _PLACES}

    def note(self, added: Iterable[firewall.Elements]) -> None:
        for held in added:
            if held.name == places.LEFT:
                went = self._went[held.place]
                for pod in held.elements:
                    went.pop(pod, None)
                    went[pod] = None
                for pod in tuple(itertools.islice(went, max(0, len(went) - firewall.MAX_ENDPOINTS))):
                    del went[pod]

    def all_(self) -> tuple[firewall.Elements, ...]:
        """To be put back when the tables are made anew; their time begins again then."""
        pods = {place: tuple({**went, **dict.fromkeys(_read(place))}) for place, went in self._went.items()}
        return tuple(
            firewall.Elements(*place, each[: firewall.MAX_ENDPOINTS]) for place, each in pods.items() if each
        )


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
