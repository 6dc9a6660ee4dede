"""What the kernel tells unasked: that a link, address, route, rule, nft table or IPsec policy changed.

Hints only: their content is believed no further than "look again", so a lost one costs a resync interval
and not the truth. Filtered cheaply, as a busy node changes routes and nft tables all day that aren't ours. Of
what we do to our own sets with each pod we know already.
"""

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Callable

from ebbgate_programmer.core import places
from ebbgate_programmer.io import nftsets

_NETLINK_ROUTE, _NETLINK_XFRM, _NETLINK_NETFILTER = 0, 6, 12
_XFRM_POLICIES = 0x8
_LINK, _IPV4_ADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_ADDR, _IPV6_ROUTE = 0x1, 0x10, 0x40, 0x80, 0x100, 0x400
_IPV6_RULE = 1 << 18
_SOL_NETLINK, _ADD_MEMBERSHIP, _NFTABLES_GROUP = 270, 1, 7
_ROUTE_MESSAGES = (24, 25)
_BUFFER = 1 << 18
_OURS = tuple(name.encode() + b"\0" for name in (places.NFT_TABLE, places.NFT_GUARD))


class Hints:
    """Calls `heard` in the event loop; after `drain`, what came until then is not reported."""

    def __init__(self, heard: Callable[[], None]) -> None:
        self._heard = heard
        groups = _LINK | _IPV4_ADDR | _IPV4_ROUTE | _IPV4_RULE | _IPV6_ADDR | _IPV6_ROUTE | _IPV6_RULE
        route = _open(_NETLINK_ROUTE, groups)
        nft = _open(_NETLINK_NETFILTER, 0)
        nft.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFTABLES_GROUP)
        self._listened: dict[socket.socket, Callable[[bytes], bool]] = {
            route: _concerns_route,
            nft: _concerns_nft,
        }
        with contextlib.suppress(OSError):  # a kernel without IPsec
            self._listened[_open(_NETLINK_XFRM, _XFRM_POLICIES)] = lambda _: True
        loop = asyncio.get_running_loop()
        for channel, concerns in self._listened.items():
            loop.add_reader(channel, self._hear, channel, concerns)

    def _hear(self, channel: socket.socket, concerns: Callable[[bytes], bool]) -> None:
        if _receive(channel, concerns):
            self._heard()

    def drain(self) -> bool:
        """Forget what has come: to be called between own changes and reading what they made. Says whether any
        of it concerned us.
        """
        return any([_receive(channel, concerns) for channel, concerns in self._listened.items()])

    def close(self) -> None:
        loop = asyncio.get_running_loop()
        for channel in self._listened:
            loop.remove_reader(channel)
            channel.close()


def _open(family: int, groups: int) -> socket.socket:
    channel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, family)
    channel.bind((0, groups))
    return channel


def _receive(channel: socket.socket, concerns: Callable[[bytes], bool]) -> bool:
    """Takes all that waits; whether any of it concerns us. An overrun means that something was lost: yes."""
    found = False
    while True:
        try:
            data = channel.recv(_BUFFER)
        except BlockingIOError:
            return found
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            found = True  # more came than the buffer holds
            continue
        found = found or concerns(data)


def _concerns_route(data: bytes) -> bool:
    """Links, addresses and rules do; routes only if default ones, or in one of our tables."""
    (kind,) = struct.unpack_from("=H", data, 4)
    if kind not in _ROUTE_MESSAGES:
        return True
    return data[17] == 0


def _concerns_nft(data: bytes) -> bool:
    """A datagram is of one transaction."""
    (port,) = struct.unpack_from("=I", data, 12)
    return port != nftsets.PORT and any(name in data for name in _OURS)
