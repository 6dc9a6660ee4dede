"""BPF maps that hold rows: entries as bytes and back. Between `kernel` and `bpf`.

Forms are `layout`'s. Here they are made quickly: an endpoint map has tens of thousands of entries, in which
few values come again and again.
"""

import functools
import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ebbgate_programmer.core import changes, layout, sharded
from ebbgate_programmer.core.kernelstate import EndpointValue, PathKey, PathValue, RouteKey, RouteValue
from ebbgate_programmer.core.touching import Part
from ebbgate_programmer.io import bpf, netlink, nftsets

_MAPPED = bytes(10) + b"\xff\xff"
"""What stands before an IPv4 address."""


def pack_address(address: str) -> bytes:
    """As layout.pack_address, in a third of its time."""
    return netlink.packed(address) if ":" in address else _MAPPED + socket.inet_pton(socket.AF_INET, address)


def unpack_address(key: bytes) -> str:
    """As layout.unpack_address, in a third of its time."""
    return nftsets.text(key.removeprefix(_MAPPED))


def _present(_: object) -> bytes:
    """The value of a map whose keys are all that matters."""
    return layout.NUMBER.pack(1)


_PACK: dict[changes.Map, tuple[Callable[[Any], bytes], Callable[[Any], bytes]]] = {
    changes.Map.ENDPOINT: (pack_address, layout.pack_endpoint),
    changes.Map.ROUTE: (layout.pack_route_key, layout.pack_route),
    changes.Map.PATH: (layout.pack_path_key, layout.pack_path),
    changes.Map.CLUSTER: (layout.pack_cidr, _present),
    changes.Map.EGRESS: (pack_address, _present),
    changes.Map.PEER: (pack_address, _present),
    changes.Map.OWN: (pack_address, _present),
}


def packed(change: changes.Put) -> list[bpf.Pair]:
    key, value = _PACK[change.map]
    value = functools.cache(value)
    return [(key(name), value(content)) for name, content in change.entries]


def packed_keys(change: changes.Drop) -> list[bytes]:
    key, _ = _PACK[change.map]
    return [key(name) for name in change.keys]


def endpoints_of(descriptor: int, pods: Collection[str]) -> dict[str, EndpointValue]:
    """Of those of `pods` that are in the map, each asked for by itself."""
    found = {pod: bpf.find(descriptor, pack_address(pod), layout.ENDPOINT.size) for pod in pods}
    return {pod: layout.unpack_endpoint(value) for pod, value in found.items() if value is not None}


Entries = Iterable[bpf.Pair]


def _endpoints(entries: Entries) -> Mapping[str, EndpointValue]:
    place = functools.cache(layout.unpack_endpoint)
    return sharded.Sharded.of({unpack_address(key): place(value) for key, value in entries})


def _routes(entries: Entries) -> Mapping[RouteKey, RouteValue]:
    to = functools.cache(layout.unpack_route)
    return sharded.Sharded.of({layout.unpack_route_key(key): to(value) for key, value in entries})


def _paths(entries: Entries) -> dict[PathKey, PathValue]:
    return {layout.unpack_path_key(key): layout.unpack_path(value) for key, value in entries}


def _addresses(entries: Entries) -> frozenset[str]:
    return frozenset(unpack_address(key) for key, _ in entries)


def _cidrs(entries: Entries) -> frozenset[str]:
    return frozenset(layout.unpack_cidr(key) for key, _ in entries)


PARTS: dict[Part, tuple[str, Callable[[Entries], Any]]] = {
    Part.ENDPOINTS: ("endpoint", _endpoints),
    Part.ROUTES: ("route", _routes),
    Part.PATHS: ("path", _paths),
    Part.PEERS: ("peer", _addresses),
    Part.OWN: ("own", _addresses),
    Part.INTERNAL: ("cluster", _cidrs),
    Part.SOURCES: ("egress", _addresses),
}
"""Parts of a KernelState that are a BPF map: its name, and what its entries say."""
