"""Direct-action filters of ours under clsact, by rtnetlink: with them programs are attached without tcx.

A filter is ours by its priority and handle, which nobody else is likely to hold; no other is ever touched. A
clsact qdisc is made where there is none and never taken away: an empty one does nothing, nobody can tell who
made it, and another's filters may be in it by then.
"""

import errno
import os
import struct

from ebbgate_programmer.core import places
from ebbgate_programmer.io import netlink

INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
"""Parents of filters in a clsact qdisc."""
_NEW_QDISC, _GET_QDISC, _NEW_FILTER, _REMOVE_FILTER, _GET_FILTER = 36, 38, 44, 45, 46
_CLSACT, _CLSACT_HANDLE = 0xFFFFFFF1, 0xFFFF0000
_KIND, _OPTIONS = 1, 2
_BPF_FD, _BPF_NAME, _BPF_FLAGS, _BPF_ID = 6, 7, 8, 11
_DIRECT_ACTION = 1
_REPLACE, _EXCLUSIVE, _CREATE = 0x100, 0x200, 0x400
_EVERY_PROTOCOL = 0x0300
"""ETH_P_ALL in network order."""
_INFO = places.FILTER_PRIORITY << 16 | _EVERY_PROTOCOL


def put(place: tuple[int, int], program: int, name: str) -> None:
    """`program` (a descriptor) at `place`, an interface's index and a parent; in the stead of what we have
    there, in one step: no packet goes between.
    """
    index, parent = place
    _ask(_NEW_QDISC, _CREATE | _EXCLUSIVE, _body(index, _CLSACT, _CLSACT_HANDLE, 0) + _kind("clsact"))
    options = (
        netlink.attribute(_BPF_FD, struct.pack("=I", program))
        + netlink.attribute(_BPF_NAME, name.encode() + b"\0")
        + netlink.attribute(_BPF_FLAGS, struct.pack("=I", _DIRECT_ACTION))
    )
    body = _body(index, parent, places.FILTER_HANDLE, _INFO)
    _ask(_NEW_FILTER, _CREATE | _REPLACE, body + _kind("bpf") + netlink.nest(_OPTIONS, options))


def remove(place: tuple[int, int]) -> None:
    """Absent afterwards; no error if it was, or if its device is gone."""
    index, parent = place
    _ask(_REMOVE_FILTER, 0, _body(index, parent, places.FILTER_HANDLE, _INFO) + _kind("bpf"))


def read() -> dict[tuple[int, int], int]:
    """Interface's index and parent → program's id, of all that are ours."""
    found = {}
    for index in sorted(_with_clsact()):
        for parent in (INGRESS, EGRESS):
            # Only those of our priority come.
            for payload in netlink.dump(netlink.ROUTE, _GET_FILTER, _body(index, parent, 0, _INFO)):
                if program := _program(payload):
                    found[index, parent] = program
    return found


def _with_clsact() -> set[int]:
    request = _body(0, 0, 0, 0)
    heads = (
        struct.unpack_from("=BxHiIII", each) for each in netlink.dump(netlink.ROUTE, _GET_QDISC, request)
    )
    return {index for _, _, index, _, parent, _ in heads if parent == _CLSACT}


def _program(payload: bytes) -> int:
    """0 if the filter isn't ours."""
    _, _, _, handle, _, info = struct.unpack_from("=BxHiIII", payload)
    parts = dict(netlink.attributes(payload[20:]))
    if (handle, info >> 16) != (places.FILTER_HANDLE, places.FILTER_PRIORITY) or _OPTIONS not in parts:
        return 0
    return netlink.number(dict(netlink.attributes(parts[_OPTIONS])).get(_BPF_ID))


def _ask(kind: int, flags: int, body: bytes) -> None:
    with netlink.opened(netlink.ROUTE) as channel:
        code = netlink.ask(channel, kind, body, flags=flags)
    harmless = {
        # Another's, or ours of last time.
        _NEW_QDISC: (errno.EEXIST,),
        # Without the filter, or any of its priority; without the qdisc; without the device.
        _REMOVE_FILTER: (errno.ENOENT, errno.EINVAL, errno.ENODEV),
    }
    if code and code not in harmless.get(kind, ()):
        raise netlink.Refused(code, f"{_VERBS[kind]}: {os.strerror(code)}")


_VERBS = {
    _NEW_QDISC: "make a clsact qdisc",
    _NEW_FILTER: "attach a program by a filter",
    _REMOVE_FILTER: "remove a filter",
}


def _body(index: int, parent: int, handle: int, info: int) -> bytes:
    """struct tcmsg."""
    return struct.pack("=BxHiIII", 0, 0, index, handle, parent, info)


def _kind(name: str) -> bytes:
    return netlink.attribute(_KIND, name.encode() + b"\0")
