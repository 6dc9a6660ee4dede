"""The guard's set of pods that were covered (`places.LEFT`), which the kernel empties by time.

What comes into it is written by `core/firewall`; here is what only the kernel knows: who is in it.
"""

import errno
import os
from collections.abc import Iterable, Iterator

from ebbgate_programmer.core import firewall, places
from ebbgate_programmer.io import netlink, nftsets

MANY = 256
"""Pods; of more of them it is quicker to read the whole set."""
_PLACES = tuple((family, places.NFT_GUARD, places.LEFT) for family in places.NFT_FAMILIES)


def all_() -> tuple[firewall.Elements, ...]:
    """To be put back when the tables are made anew; their time begins again then."""
    found = ((place, tuple(map(nftsets.text, _read(place)))) for place in _PLACES)
    return tuple(firewall.Elements(*place, pods) for place, pods in found if pods)


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
    if len(held.elements) > MANY:
        there = frozenset(map(nftsets.text, _read(held.place)))
        pods = tuple(pod for pod in held.elements if pod in there)
    else:
        pods = tuple(nftsets.held(held.place, held.elements))
    return firewall.Elements(*held.place, pods)


def _read(place: tuple[str, str, str]) -> Iterator[bytes]:
    try:
        yield from (key for key, _ in nftsets.read(place))
    except netlink.Refused as error:
        if error.errno != errno.ENOENT:  # no table, as on a new node
            raise
