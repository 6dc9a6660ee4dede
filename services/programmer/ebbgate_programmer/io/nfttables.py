"""Our nft tables as they are, by plain netlink: what `nft -j list table` says, in the same words.

Four starts of `nft` were most of what an idle programmer cost. Only what `firewall_reading` asks for is taken
out: chains, comments and counters of rules, sets and their elements. A test holds it against nft's own words.
Numbers: linux/netfilter/nf_tables.h.
"""

import errno
import functools
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from ebbgate_programmer.core import firewall, places
from ebbgate_programmer.io import netlink, nftsets

_GET_CHAIN, _GET_RULE, _GET_SET = ((10 << 8) | kind for kind in (4, 7, 10))
_TABLE = 1
_CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 3, 4, 5, 7
_RULE_CHAIN, _RULE_EXPRESSIONS, _RULE_USERDATA = 2, 4, 7
_SET_NAME, _SET_FLAGS, _SET_DESCRIPTION = 2, 3, 9
_ANONYMOUS, _COMMENT = 1, 0
_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
_POLICIES = ("drop", "accept")
_FAMILIES = {"ip": socket.AF_INET, "ip6": socket.AF_INET6}

Object = dict[str, dict[str, Any]]


class Listing(msgspec.Struct, frozen=True):
    """Answers of the kernel, by what was asked. `elements`: by set, those of ours."""

    chains: dict[str, tuple[bytes, ...]]
    rules: dict[tuple[str, str], tuple[bytes, ...]]
    sets: dict[tuple[str, str], tuple[bytes, ...]]
    elements: dict[tuple[str, str, str], tuple[bytes, ...]]

    def parts(self) -> Iterator[bytes]:
        """All of it, and to which question it is the answer."""
        for asked, answers in (
            *self.chains.items(),
            *self.rules.items(),
            *self.sets.items(),
            *self.elements.items(),
        ):
            yield repr(asked).encode()
            yield from answers


def read() -> Listing:
    """Of tables that don't exist nothing. Raises netlink.Refused."""
    return Listing(
        chains={family: _dump(_GET_CHAIN, family) for family in places.NFT_FAMILIES},
        rules={table: _dump(_GET_RULE, *table) for table in firewall.TABLES},
        sets={table: _dump(_GET_SET, *table) for table in firewall.TABLES},
        elements={each.place: _elements(each.place) for each in firewall.SETS if each.name in _READ},
    )


def _dump(kind: int, family: str, table: str = "") -> tuple[bytes, ...]:
    body = struct.pack(">BBH", _FAMILIES[family], 0, 0)
    if table:
        body += netlink.attribute(_TABLE, table.encode() + b"\0")
    return _unless_absent(netlink.dump(netlink.NETFILTER, kind, body))


def _elements(place: tuple[str, str, str]) -> tuple[bytes, ...]:
    return _unless_absent(nftsets.dump(place))


def _unless_absent(answers: Iterable[bytes]) -> tuple[bytes, ...]:
    try:
        return tuple(answers)
    except netlink.Refused as error:
        if error.errno != errno.ENOENT:
            raise
        return ()


def objects(listing: Listing) -> Iterator[Object]:
    """Chains, rules and sets with their elements, as nft has them in JSON."""
    for family, answers in listing.chains.items():
        for parts in map(_parts, answers):
            if (family, netlink.text(parts[_TABLE])) in firewall.TABLES:
                yield {"chain": _chain(family, parts)}
    for (family, table), answers in listing.rules.items():
        for parts in map(_parts, answers):
            yield {"rule": {"family": family, "table": table} | _rule(parts)}
    pods: Pods = {}
    for (family, table), answers in listing.sets.items():
        for parts in map(_parts, answers):
            if not _number(parts.get(_SET_FLAGS)) & _ANONYMOUS:
                content = _set(parts, listing.elements.get((family, table, _name(parts)), ()), pods)
                yield {"set": {"family": family, "table": table} | content}


def _parts(answer: bytes) -> dict[int, bytes]:
    return dict(netlink.attributes(answer[4:]))


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "big")


def _chain(family: str, parts: dict[int, bytes]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "family": family,
        "table": netlink.text(parts[_TABLE]),
        "name": netlink.text(parts[_CHAIN_NAME]),
    }
    if _CHAIN_HOOK in parts:
        hook = dict(netlink.attributes(parts[_CHAIN_HOOK]))
        found["type"] = netlink.text(parts[_CHAIN_TYPE])
        found["hook"] = _HOOKS[_number(hook[1])]
        found["prio"] = int.from_bytes(hook[2], "big", signed=True)
        found["policy"] = _POLICIES[_number(parts[_CHAIN_POLICY])]
    return found


def _rule(parts: dict[int, bytes]) -> dict[str, Any]:
    found: dict[str, Any] = {"chain": netlink.text(parts[_RULE_CHAIN])}
    data = parts.get(_RULE_USERDATA, b"")
    while len(data) > 2:  # type, length, value
        if data[0] == _COMMENT:
            found["comment"] = netlink.text(data[2 : 2 + data[1]])
        data = data[2 + data[1] :]
    found["expr"] = list(_counters(parts.get(_RULE_EXPRESSIONS, b"")))
    return found


def _counters(expressions: bytes) -> Iterator[Object]:
    for _, expression in netlink.attributes(expressions):
        parts = dict(netlink.attributes(expression))
        if netlink.text(parts[1]) == "counter":
            yield {"counter": {"packets": _number(dict(netlink.attributes(parts[2]))[2])}}


def _name(parts: dict[int, bytes]) -> str:
    return netlink.text(parts[_SET_NAME])


Answers = tuple[bytes, ...]
Pods = dict[bytes, list[Any]]
"""Sorted addresses → the same as texts."""


def _set(parts: dict[int, bytes], held: Answers, pods: Pods) -> dict[str, Any]:
    name = _name(parts)
    described = dict(netlink.attributes(parts.get(_SET_DESCRIPTION, b"")))
    read = functools.partial(_covered, pods=pods) if name == "covered" else _HELD.get(name, _nothing)
    return {"name": name, "size": _number(described.get(1)), "elem": read(held)}


def _nothing(_: Answers) -> list[Any]:
    return []


def _covered(answers: Answers, pods: Pods) -> list[Any]:
    """Two tables hold the same pods, maybe 50,000: one list for both."""
    keys = sorted(key for key, _ in nftsets.pairs(answers))
    packed = b"".join(keys)
    if packed not in pods:
        pods[packed] = list(map(nftsets.text, keys))
    return pods[packed]


def _cluster(answers: Answers) -> list[Any]:
    """The kernel has where each range begins, and where the next address begins that isn't in it."""
    borders = sorted(nftsets.borders(answers))
    following = [*(key for key, _ in borders[1:]), b""]
    return [
        _range(first, after) for (first, begins), after in zip(borders, following, strict=False) if begins
    ]


def _range(first: bytes, after: bytes) -> dict[str, list[str]]:
    """Without an address after it, it reaches to the last one."""
    last = ((int.from_bytes(after, "big") or 1 << 8 * len(first)) - 1).to_bytes(len(first), "big")
    return {"range": [nftsets.text(first), nftsets.text(last)]}


def _egress(answers: Answers) -> list[Any]:
    return [[nftsets.number(key), nftsets.text(value)] for key, value in nftsets.pairs(answers)]


def _zones(answers: Answers) -> list[Any]:
    return [[nftsets.number(key), netlink.number(value)] for key, value in nftsets.pairs(answers)]


def _leaving(answers: Answers) -> list[Any]:
    return [{"concat": [nftsets.number(key[:4]), nftsets.text(key[4:])]} for key, _ in nftsets.pairs(answers)]


_HELD: dict[str, Callable[[Answers], list[Any]]] = {
    "cluster": _cluster,
    "egress": _egress,
    "zones": _zones,
    "uplinks": _zones,
    "leaving": _leaving,
}
"""Set → its elements as nft writes them; of others they don't matter."""
_READ = {"covered", *_HELD}
