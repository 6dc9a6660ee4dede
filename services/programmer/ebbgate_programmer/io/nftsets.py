"""Elements of our nft sets by plain netlink: the change that each pod and each egress IP costs.

`nft` takes 3-15 ms to start, most of an event's way into the kernel; the same transaction takes 0.1 ms here.
Chains, rules and interval sets stay with `nft`, which knows their many forms. One batch is one transaction
(NFNL_MSG_BATCH_BEGIN … END): everything or nothing. Numbers: linux/netfilter/nf_tables.h.
"""

import errno
import functools
import ipaddress
import itertools
import os
import random
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence

from ebbgate_programmer.core import firewall, marks, places, sharded
from ebbgate_programmer.io import netlink

_BEGIN, _END, _NFTABLES = 0x10, 0x11, 10
_NEW, _GET, _DELETE = ((_NFTABLES << 8) | kind for kind in (12, 13, 14))
_CREATE = 0x400
_TABLE, _SET, _ELEMENTS = 1, 2, 3
_ELEMENT, _KEY, _DATA, _FLAGS, _VALUE = 1, 1, 2, 3, 1
_INTERVAL_END = 1
_FAMILIES = {"ip": socket.AF_INET, "ip6": socket.AF_INET6}
_MAIN, _GUARD = places.NFT_TABLE, places.NFT_GUARD
_V4_SIZE = 4
_BUFFER = 8 << 20
_SNDBUFFORCE = 32
PORT = random.getrandbits(31) | 1 << 31
"""Of the sockets that write: by it the kernel's notices of a transaction say that it was ours. Processes that
leave it to the kernel get their own ids, and then numbers from the other end.
"""
CHUNK = 1000
"""Elements of one message: an attribute's length has 16 bits, an element some 30 bytes."""


class Refused(Exception):
    """The kernel's no to the whole transaction."""


class Disagreeing(Exception):
    """The guards' sets don't say what the map of egress IPs says."""


def text(packed: bytes) -> str:
    # Not by inet_ntop: it writes some IPv6 addresses in another form than everybody else here.
    return socket.inet_ntoa(packed) if len(packed) == _V4_SIZE else str(ipaddress.IPv6Address(packed))


def _mark(text: str) -> bytes:
    return struct.pack("=I", int(text, 16))


def _zone(text: str) -> bytes:
    return struct.pack("=H", int(text))


FORMS: dict[str, tuple[tuple[Callable[[str], bytes], ...], bool]] = {
    "covered": ((netlink.packed,), False),
    places.LEFT: ((netlink.packed,), False),
    "egress": ((_mark, netlink.packed), True),
    "leaving": ((_mark, netlink.packed), False),
    "zones": ((_mark, _zone), True),
    "uplinks": ((_mark, _mark), True),
}
"""Set → how the parts of an element's text become bytes, and whether the last is a map's value."""


def takes(changed: Iterable[firewall.Elements]) -> bool:
    """Are all these sets of a form that is written here? Interval sets aren't."""
    return all(held.name in FORMS for held in changed)


def update(removed: Sequence[firewall.Elements], added: Sequence[firewall.Elements]) -> None:
    """Removals, then additions, in one transaction. Raises Refused, with nothing changed."""
    parts = [*_messages(_DELETE, 0, removed), *_messages(_NEW, _CREATE, added)]
    begin = netlink.message(_BEGIN, netlink.REQUEST, struct.pack(">BBH", 0, 0, _NFTABLES))
    end = netlink.message(_END, netlink.REQUEST, struct.pack(">BBH", 0, 0, _NFTABLES))
    with netlink.opened(netlink.NETFILTER, PORT) as channel:
        channel.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, _BUFFER)
        channel.send(b"".join((begin, *parts, end)))
        _acknowledged(channel, len(parts))


def read(place: tuple[str, str, str]) -> frozenset[tuple[bytes, bytes]]:
    """Keys and values of a set as the kernel has them; a set's value is empty."""
    return frozenset(pairs(dump(place)))


def dump(place: tuple[str, str, str]) -> Iterator[bytes]:
    """The kernel's answers to the question what a set holds. Raises netlink.Refused."""
    return netlink.dump(netlink.NETFILTER, _GET, _head(place))


def pairs(answers: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values in answers of `dump`."""
    return itertools.chain.from_iterable(map(_elements, _lists(answers)))


def borders(answers: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Of an interval set: addresses, and whether an interval begins there, or ends before it."""
    for listed in _lists(answers):
        for _, element in netlink.attributes(listed):
            parts = dict(netlink.attributes(element))
            ends = int.from_bytes(parts.get(_FLAGS, b""), "big") & _INTERVAL_END
            yield _content(parts[_KEY]), not ends


def _lists(answers: Iterable[bytes]) -> Iterator[bytes]:
    return (
        value for answer in answers for kind, value in netlink.attributes(answer[4:]) if kind == _ELEMENTS
    )


def covered() -> sharded.ShardedSet[str]:
    """Addresses of both families. Raises Disagreeing."""
    found: list[str] = []
    for family in places.NFT_FAMILIES:
        here, guard = (
            {key for key, _ in pairs(dump((family, table, "covered")))} for table in (_MAIN, _GUARD)
        )
        if here != guard:
            raise Disagreeing
        found += map(text, here)
    return sharded.ShardedSet(dict.fromkeys(found))


def covered_of(pods: Iterable[str]) -> list[str]:
    """Those of `pods` that are covered, each asked for by itself. Raises Disagreeing."""
    found = []
    with netlink.opened(netlink.NETFILTER) as channel:
        for pod in pods:
            here, guard = (
                _holds(channel, (_family(pod), table, "covered"), pod) for table in (_MAIN, _GUARD)
            )
            if here != guard:
                raise Disagreeing
            if here:
                found.append(pod)
    return found


def held(place: tuple[str, str, str], pods: Iterable[str]) -> Iterator[str]:
    """Those of `pods` that are in the set, each asked for by itself."""
    with netlink.opened(netlink.NETFILTER) as channel:
        yield from (pod for pod in pods if _holds(channel, place, pod))


def _family(address: str) -> str:
    return "ip6" if ":" in address else "ip"


def _holds(channel: socket.socket, place: tuple[str, str, str], key: str) -> bool:
    body = _head(place) + netlink.nest(_ELEMENTS, _element(netlink.packed(key), b""))
    channel.send(netlink.message(_GET, netlink.REQUEST, body))
    ((kind, payload),) = netlink.messages(channel.recv(_BUFFER))
    code = -int(struct.unpack_from("=i", payload)[0]) if kind == netlink.ERROR else 0
    if code not in (0, errno.ENOENT):
        raise netlink.Refused(code, f"look for {key} in {' '.join(place)}: {os.strerror(code)}")
    return code == 0


def egress() -> dict[int, str]:
    """Slot → egress IP, as the maps and the guards have it. Raises Disagreeing."""
    found: dict[int, str] = {}
    for family in places.NFT_FAMILIES:
        held = dict(read((family, _MAIN, "egress")))
        leaving = {(mark + address, b"") for mark, address in held.items()}
        zones = {(mark, struct.pack("=H", firewall.zone_of(_field(mark)))) for mark in held}
        if read((family, _GUARD, "leaving")) != leaving or read((family, _MAIN, "zones")) != zones:
            raise Disagreeing
        found |= {_field(mark): text(address) for mark, address in held.items()}
    return found


def uplinks() -> dict[int, int]:
    """Slot → class."""
    return {
        _field(slot): _field(number)
        for family in places.NFT_FAMILIES
        for slot, number in read((family, _MAIN, "uplinks"))
    }


def _field(mark: bytes) -> int:
    return marks.field_of(number(mark))


def number(mark: bytes) -> int:
    return int(struct.unpack("=I", mark)[0])


def binary(held: firewall.Elements) -> frozenset[tuple[bytes, bytes]]:
    """The elements as `read` gives them."""
    forms, is_map = FORMS[held.name]
    return frozenset(_pair(each, forms, is_map) for each in held.elements)


def _messages(kind: int, flags: int, changed: Iterable[firewall.Elements]) -> Iterator[bytes]:
    # The guards' table holds the same pods as the main one: their bytes are made once.
    listed = functools.cache(_listed)
    for held in changed:
        for start in range(0, len(held.elements), CHUNK):
            elements = listed(FORMS[held.name], held.elements[start : start + CHUNK])
            body = _head(held.place) + netlink.nest(_ELEMENTS, elements)
            yield netlink.message(kind, netlink.REQUEST | netlink.ACK | flags, body)


def _listed(form: tuple[tuple[Callable[[str], bytes], ...], bool], elements: tuple[str, ...]) -> bytes:
    forms, is_map = form
    keys = list(map(forms[0], elements)) if len(forms) == 1 else []
    if len(set(map(len, keys))) != 1:
        return b"".join(_element(*_pair(each, forms, is_map)) for each in elements)
    # Of addresses, which may be tens of thousands: what stands between two of them is the same everywhere.
    before, *after = _frame(len(keys[0]), 0)
    behind = b"".join(after)
    return before + (behind + before).join(keys) + behind


def _head(place: tuple[str, str, str]) -> bytes:
    family, table, name = place
    return (
        struct.pack(">BBH", _FAMILIES[family], 0, 0)
        + netlink.attribute(_TABLE, table.encode() + b"\0")
        + netlink.attribute(_SET, name.encode() + b"\0")
    )


def _pair(text: str, forms: Sequence[Callable[[str], bytes]], is_map: bool) -> tuple[bytes, bytes]:
    if len(forms) == 1:
        return forms[0](text), b""
    parts = [form(part) for form, part in zip(forms, text.replace(" : ", " . ").split(" . "), strict=True)]
    return (b"".join(parts[:-1]), parts[-1]) if is_map else (b"".join(parts), b"")


def _element(key: bytes, value: bytes) -> bytes:
    before, between, after = _frame(len(key), len(value))
    return before + key + between + value + after


@functools.cache
def _frame(key_size: int, value_size: int) -> tuple[bytes, bytes, bytes]:
    """What stands before, between and after key and value: the same in all elements of a set."""
    whole = _built(bytes(key_size), bytes(value_size))
    tail = whole[_HEAD + key_size :]
    place = len(tail) - (value_size + 3 & ~3)
    return whole[:_HEAD], tail[:place], tail[place + value_size :]


_HEAD = 12
"""Three attributes begin before an element's key: element, key, value."""


def _built(key: bytes, value: bytes) -> bytes:
    content = netlink.nest(_KEY, netlink.attribute(_VALUE, key))
    if value:
        content += netlink.nest(_DATA, netlink.attribute(_VALUE, value))
    return netlink.nest(_ELEMENT, content)


def _elements(listed: bytes) -> Iterator[tuple[bytes, bytes]]:
    return _alike(listed) or _taken_apart(listed)


def _alike(listed: bytes) -> Iterator[tuple[bytes, bytes]] | None:
    """If they all are a key in the frame of the first: there may be 50,000 of these."""
    if len(listed) < _HEAD:
        return None
    (size,) = struct.unpack_from("=H", listed)
    if len(listed) % size or listed[_HEAD - 4 : _HEAD - 2] != struct.pack("=H", size - _HEAD + 4):
        return None
    found = list(struct.iter_unpack(f"{_HEAD}s{size - _HEAD}s", listed))
    if any(head != listed[:_HEAD] for head, _ in found):
        return None
    return ((key, b"") for _, key in found)


def _taken_apart(listed: bytes) -> Iterator[tuple[bytes, bytes]]:
    for _, element in netlink.attributes(listed):
        parts = dict(netlink.attributes(element))
        yield _content(parts.get(_KEY, b"")), _content(parts.get(_DATA, b""))


def _content(data: bytes) -> bytes:
    return dict(netlink.attributes(data)).get(_VALUE, b"")


def _acknowledged(channel: socket.socket, expected: int) -> None:
    """Reads one acknowledgement a message: the kernel sends them after the commit, or the first error."""
    while expected > 0:
        for kind, payload in netlink.messages(channel.recv(_BUFFER)):
            if kind != netlink.ERROR:
                continue
            (code,) = struct.unpack_from("=i", payload)
            if code:
                raise Refused(f"nft sets: {os.strerror(-code)}")
            expected -= 1
