"""KernelState: all that is ours in one node's kernel, wanted or as read. The station between lower and diff.

Everything a restart must find unchanged is in here, or it would be written again: device, sysctls, rules,
routes, nft, BPF maps, programs. Values are plain and hashable; nothing says where a value came from. Both IP
families are in the same fields: an address tells which it is of.
"""

import enum
from collections.abc import Mapping, Set

import msgspec

from ebbgate_programmer.core import addresses


class Device(msgspec.Struct, frozen=True, gc=False):
    """`ebbgate0`. `form`: what can't be changed in place, in words; `address`: CIDR notation."""

    mac: str
    mtu: int
    address: str
    form: str
    up: bool = True


class Rule(msgspec.Struct, frozen=True, order=True, gc=False):
    """`fwmark mark/mask lookup table`."""

    family: str
    priority: int
    mark: int
    mask: int
    table: int


class Way(msgspec.Struct, frozen=True, order=True, gc=False):
    """A route in a table of ours. `destination`: CIDR, empty for everything. `device` empty: a blackhole.
    `gateway`: next hop, or empty. `program`: name of the LWT program.
    """

    family: str
    table: int
    metric: int
    device: str = ""
    program: str = ""
    destination: str = ""
    gateway: str = ""

    @property
    def place(self) -> tuple[str, int, int, str]:
        """What the kernel knows a route by: two of one place can't be there at once."""
        return (self.family, self.table, self.metric, self.destination)


class EndpointValue(msgspec.Struct, frozen=True, gc=False):
    set: int
    bucket: int


class Action(enum.IntEnum):
    """As the route map has it (bpf/ebbgate.h)."""

    STEER = 1
    EXCLUDE = 2
    DROP = 3


class RouteKey(msgspec.Struct, frozen=True, gc=False):
    """`network` and `length`: as `addresses.prefix` has them, numbers: 500 are compared at each change."""

    set: int
    network: int
    length: int

    @property
    def cidr(self) -> str:
        return addresses.cidr(self.network, self.length)


class RouteValue(msgspec.Struct, frozen=True, gc=False):
    action: Action
    group: int


class PathKey(msgspec.Struct, frozen=True, gc=False):
    group: int
    bucket: int


class PathValue(msgspec.Struct, frozen=True, gc=False):
    """`local`: this node is the gateway. A slot below rows.SLOT_MIN: there is no egress IP, and it drops."""

    gateway: str
    slot: int
    local: bool = False


class KernelState(msgspec.Struct, frozen=True, kw_only=True):
    """`loaded`: hash of the object whose programs are pinned, all of them, or empty. `programs`: the same, if
    they are attached to the device. `guarded`: the interfaces that the guard is attached to, and what takes
    tunnel packets the direct way. `direct`: port of the tunnel that has a direct way, 0 if it has none.
    `others`: map layouts of other versions of ours that are still pinned.

    `chains`: signature lines of the static nftables part (`firewall.signature`). `sysctls`: those we set, by
    path under /proc/sys. `egress`: slot → egress IP. `uplinks`: slot → class, where traffic doesn't leave by
    the default route.
    """

    device: Device | None = None
    loaded: str = ""
    programs: str = ""
    others: frozenset[str] = frozenset()
    guarded: frozenset[str] = frozenset()
    direct: int = 0
    sysctls: dict[str, str] = {}
    rules: frozenset[Rule] = frozenset()
    ways: frozenset[Way] = frozenset()
    chains: tuple[str, ...] = ()
    covered: Set[str] = frozenset()
    cluster: frozenset[str] = frozenset()
    egress: dict[int, str] = {}
    uplinks: dict[int, int] = {}
    endpoints: Mapping[str, EndpointValue] = {}
    routes: Mapping[RouteKey, RouteValue] = {}
    paths: dict[PathKey, PathValue] = {}
    internal: frozenset[str] = frozenset()
    """`cluster`, and what is never steered, as the BPF map has it for the guard."""
    sources: frozenset[str] = frozenset()
    """Egress IPs, as the BPF map has them for the guard."""
    peers: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()
    """This node's addresses that others' tunnels lead to."""
