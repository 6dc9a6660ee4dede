"""Bytes of the BPF maps: the Python twins of the structs in bpf/ebbgate.h.

A test compares each format with the object's BTF. Numbers are in the machine's order, as the kernel's; IP
addresses and the halves of a set's id in network order, as packets have them and as prefixes are matched.
"""

import ipaddress
import struct

from ebbgate_programmer.core.kernelstate import (
    Action,
    EndpointValue,
    PathKey,
    PathValue,
    RouteKey,
    RouteValue,
)

LAYOUT = 1
SET_BITS = 64

ADDRESS = struct.Struct("=4s")
ENDPOINT = struct.Struct("=QII")
ROUTE_KEY = struct.Struct("=I8s4s")
ROUTE = struct.Struct("=QII")
PATH_KEY = struct.Struct("=QII")
PATH = struct.Struct("=4sII")
META = struct.Struct("=IIIIQ")
REMEMBERED_KEY = struct.Struct("=16s")
REMEMBERED = struct.Struct("=I")
COUNT = struct.Struct("=Q")
FLAG = struct.Struct("=I")
PATH_LOCAL = 1

COUNTERS = (
    "steered",
    "local",
    "excluded",
    "replied",
    "arrived",
    "drop_no_endpoint",
    "drop_route",
    "drop_no_path",
    "drop_no_mark",
    "drop_no_return",
    "drop_unknown_peer",
    "drop_bad_vni",
    "drop_not_ipv4",
)
"""`enum counter` of bpf/ebbgate.h, in its order."""


def pack_address(address: str) -> bytes:
    return ipaddress.IPv4Address(address).packed


def unpack_address(key: bytes) -> str:
    return str(ipaddress.IPv4Address(key))


def pack_endpoint(value: EndpointValue) -> bytes:
    return ENDPOINT.pack(value.set, value.bucket, 0)


def unpack_endpoint(value: bytes) -> EndpointValue:
    set_id, bucket, _ = ENDPOINT.unpack(value)
    return EndpointValue(set_id, bucket)


def pack_route_key(key: RouteKey) -> bytes:
    return ROUTE_KEY.pack(SET_BITS + key.length, key.set.to_bytes(8, "big"), key.network.to_bytes(4, "big"))


def unpack_route_key(key: bytes) -> RouteKey:
    length, set_id, network = ROUTE_KEY.unpack(key)
    return RouteKey(int.from_bytes(set_id, "big"), int.from_bytes(network, "big"), length - SET_BITS)


def pack_route(value: RouteValue) -> bytes:
    return ROUTE.pack(value.group, value.action, 0)


def unpack_route(value: bytes) -> RouteValue:
    group, action, _ = ROUTE.unpack(value)
    return RouteValue(Action(action), group)


def pack_path_key(key: PathKey) -> bytes:
    return PATH_KEY.pack(key.group, key.bucket, 0)


def unpack_path_key(key: bytes) -> PathKey:
    group, bucket, _ = PATH_KEY.unpack(key)
    return PathKey(group, bucket)


def pack_path(value: PathValue) -> bytes:
    return PATH.pack(pack_address(value.gateway), value.slot, PATH_LOCAL if value.local else 0)


def unpack_path(value: bytes) -> PathValue:
    gateway, slot, flags = PATH.unpack(value)
    return PathValue(unpack_address(gateway), slot, bool(flags & PATH_LOCAL))
