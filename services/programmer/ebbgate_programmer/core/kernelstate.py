"""KernelState: all that is ours in one node's kernel, wanted or as read. The station between lower and diff.

Everything a restart must find unchanged is in here, or it would be written again: device, sysctls, rules,
routes, nft, BPF maps, programs. Values are plain and hashable; nothing says where a value came from.
"""

import enum
import ipaddress

import msgspec


class Device(msgspec.Struct, frozen=True, gc=False):
    """`ebbgate0`. `form`: what can't be changed in place, in words; `address`: CIDR notation."""

    mac: str
    mtu: int
    address: str
    form: str
    up: bool = True


class Rule(msgspec.Struct, frozen=True, order=True, gc=False):
    """`fwmark mark/mask lookup table`."""

    priority: int
    mark: int
    mask: int
    table: int


class Way(msgspec.Struct, frozen=True, order=True, gc=False):
    """A default route in a table of ours. `device` empty: a blackhole. `program`: name of the LWT program."""

    table: int
    metric: int
    device: str = ""
    program: str = ""


class EndpointValue(msgspec.Struct, frozen=True, gc=False):
    set: int
    bucket: int


class Action(enum.IntEnum):
    """As the route map has it (bpf/ebbgate.h)."""

    STEER = 1
    EXCLUDE = 2
    DROP = 3


class RouteKey(msgspec.Struct, frozen=True, gc=False):
    """`network` and `length`: an IPv4 CIDR, as numbers: 500 routes are compared at each change."""

    set: int
    network: int
    length: int

    @property
    def cidr(self) -> str:
        return f"{ipaddress.IPv4Address(self.network)}/{self.length}"


class RouteValue(msgspec.Struct, frozen=True, gc=False):
    action: Action
    group: int


class PathKey(msgspec.Struct, frozen=True, gc=False):
    group: int
    bucket: int


class PathValue(msgspec.Struct, frozen=True, gc=False):
    """`local`: this node is the gateway."""

    gateway: str
    slot: int
    local: bool = False


class KernelState(msgspec.Struct, frozen=True, kw_only=True):
    """`programs`: hash of the object whose programs are in place, all of them, or empty.

    `chains`: signature lines of the static nftables part (`firewall.signature`). `sysctls`: those we set, by
    path under /proc/sys. `egress`: slot → egress IP. `stray`: routes in our tables or nft objects that aren't
    ours to explain.
    """

    device: Device | None = None
    programs: str = ""
    sysctls: dict[str, str] = {}
    rules: frozenset[Rule] = frozenset()
    ways: frozenset[Way] = frozenset()
    chains: tuple[str, ...] = ()
    covered: frozenset[str] = frozenset()
    cluster: frozenset[str] = frozenset()
    covered6: frozenset[str] = frozenset()
    cluster6: frozenset[str] = frozenset()
    egress: dict[int, str] = {}
    endpoints: dict[str, EndpointValue] = {}
    routes: dict[RouteKey, RouteValue] = {}
    paths: dict[PathKey, PathValue] = {}
    peers: frozenset[str] = frozenset()
