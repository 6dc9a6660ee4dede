"""Bytes of the BPF maps: the Python twins of the structs in bpf/ebbgate.h.

A test compares each format with the object's BTF. Numbers are in the machine's order, as the kernel's; IP
addresses and the halves of a set's id in network order, as packets have them and as prefixes are matched.
"""

import struct

import msgspec

from ebbgate_programmer.core import addresses
from ebbgate_programmer.core.kernelstate import (
    Action,
    EndpointValue,
    PathKey,
    PathValue,
    RouteKey,
    RouteValue,
)

LAYOUT = 3
SET_BITS = 64
FIRST = b"\0\0\0\0"
"""Key of a map of one entry."""

ADDRESS = struct.Struct("=16s")
ENDPOINT = struct.Struct("=QII")
ROUTE_KEY = struct.Struct("=I8s16s")
ROUTE = struct.Struct("=QII")
PATH_KEY = struct.Struct("=QII")
PATH = struct.Struct("=16sII")
CLUSTER_KEY = struct.Struct("=I16s")
DIRECT = struct.Struct("=I2sBB")
META = struct.Struct("=IIIIIIQ")
REMEMBERED_KEY = struct.Struct("=16s")
REMEMBERED = struct.Struct("=I")
COUNT = struct.Struct("=Q")
NUMBER = struct.Struct("=I")
TRAFFIC_KEY = struct.Struct("=QII")
TRAFFIC = struct.Struct("=QQ")
DROP = struct.Struct("=QII16s16s2s2sI")
BUDGET = struct.Struct("=QQ")
PATH_LOCAL = 1
_AF_INET = 2
CONNECTIONS = 64
"""In a traffic key, beside the counters."""

COUNTERS = (
    "steered",
    "local",
    "excluded",
    "replied",
    "arrived",
    "drop_no_endpoint",
    "drop_route",
    "drop_no_path",
    "drop_no_egress_ip",
    "drop_no_mark",
    "drop_no_return",
    "drop_unknown_peer",
    "drop_bad_vni",
    "drop_not_ip",
    "drop_unrouted",
    "drop_unclassified",
    "drop_not_translated",
)
"""`enum counter` of bpf/ebbgate.h, in its order."""


def pack_address(address: str) -> bytes:
    return addresses.number(address).to_bytes(16, "big")


def unpack_address(key: bytes) -> str:
    return addresses.text(int.from_bytes(key, "big"))


def pack_endpoint(value: EndpointValue) -> bytes:
    return ENDPOINT.pack(value.set, value.bucket, 0)


def unpack_endpoint(value: bytes) -> EndpointValue:
    set_id, bucket, _ = ENDPOINT.unpack(value)
    return EndpointValue(set_id, bucket)


def pack_route_key(key: RouteKey) -> bytes:
    return ROUTE_KEY.pack(SET_BITS + key.length, key.set.to_bytes(8, "big"), key.network.to_bytes(16, "big"))


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


def pack_cidr(cidr: str) -> bytes:
    network, length = addresses.prefix(cidr)
    return CLUSTER_KEY.pack(length, network.to_bytes(16, "big"))


def unpack_cidr(key: bytes) -> str:
    length, network = CLUSTER_KEY.unpack(key)
    return addresses.cidr(int.from_bytes(network, "big"), length)


def pack_direct(device: int, port: int) -> bytes:
    """`device`: index, 0 for no direct way."""
    return DIRECT.pack(device, port.to_bytes(2, "big"), _AF_INET, 0)


def unpack_direct(value: bytes) -> tuple[int, int]:
    device, port, _, _ = DIRECT.unpack(value)
    return device, int.from_bytes(port, "big")


class Told(msgspec.Struct, frozen=True):
    """A dropped packet. `group`: 0 if no policy is known. `counter`: why, of COUNTERS. Ports are 0 where
    there are none.
    """

    group: int
    counter: str
    protocol: int
    source: str
    destination: str
    source_port: int
    destination_port: int


def unpack_drop(data: bytes) -> Told:
    group, counter, protocol, source, destination, *ports, _ = DROP.unpack(data)
    return Told(
        group,
        COUNTERS[counter],
        protocol,
        unpack_address(source),
        unpack_address(destination),
        *(int.from_bytes(port, "big") for port in ports),
    )
