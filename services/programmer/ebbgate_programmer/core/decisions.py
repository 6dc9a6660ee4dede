"""What happens to a packet, by a KernelState: the oracle beside the BPF programs and the fake kernel.

    covered(src)  never/cluster(dst)  endpoint  route       path          decision
    no            -                   -         -           -             untouched
    yes           yes                 -         -           -             untouched
    yes           no                  none      -           -             dropped
    yes           no                  set       none        -             untouched
    yes           no                  set       exclude     -             untouched
    yes           no                  set       drop        -             dropped
    yes           no                  set       steer       none/no slot  dropped
    yes           no                  set       steer       local         local, slot
    yes           no                  set       steer       else          tunnel, gateway and slot

Original direction only. It must never be used to answer for the kernel: it says what the kernel should do.
"""

import enum
import ipaddress

import msgspec

from ebbgate_bus.contracts import rows
from ebbgate_programmer.core.kernelstate import Action, KernelState, PathKey, RouteValue

_NEVER = tuple(map(ipaddress.IPv4Network, ("127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")))


class Kind(enum.Enum):
    UNTOUCHED = "untouched"
    DROPPED = "dropped"
    LOCAL = "local"
    TUNNEL = "tunnel"


class Decision(msgspec.Struct, frozen=True, gc=False):
    kind: Kind
    gateway: str = ""
    slot: int = 0


UNTOUCHED, DROPPED = Decision(Kind.UNTOUCHED), Decision(Kind.DROPPED)

Index = dict[int, dict[int, dict[int, RouteValue]]]
"""set → prefix length → network → route."""


class Tables:
    """A KernelState made ready for questions: routes by set and length, cluster CIDRs as numbers."""

    def __init__(self, state: KernelState) -> None:
        self.state = state
        self.index: Index = {}
        for key, value in state.routes.items():
            self.index.setdefault(key.set, {}).setdefault(key.length, {})[key.network] = value
        networks = [*map(ipaddress.IPv4Network, state.cluster), *_NEVER]
        self.untouched: dict[int, set[int]] = {}
        for network in networks:
            self.untouched.setdefault(network.prefixlen, set()).add(int(network.network_address))


def decide(tables: Tables, source: str, destination: str) -> Decision:
    """What becomes of a packet from pod `source` to the real destination (after DNAT), IPv4."""
    target = int(ipaddress.IPv4Address(destination))
    if source not in tables.state.covered or _is_untouched(tables, target):
        return UNTOUCHED
    return classify(tables, source, target)


def classify(tables: Tables, source: str, target: int) -> Decision:
    """The BPF program's part of it: everything after nftables marked the packet RECLASS."""
    endpoint = tables.state.endpoints.get(source)
    if endpoint is None:
        return DROPPED
    route = _longest(tables.index.get(endpoint.set, {}), target)
    if route is None or route.action is Action.EXCLUDE:
        return UNTOUCHED
    if route.action is Action.DROP:
        return DROPPED
    path = tables.state.paths.get(PathKey(route.group, endpoint.bucket))
    if path is None or path.slot < rows.SLOT_MIN:
        return DROPPED
    return (
        Decision(Kind.LOCAL, "", path.slot) if path.local else Decision(Kind.TUNNEL, path.gateway, path.slot)
    )


def _is_untouched(tables: Tables, target: int) -> bool:
    return any(_masked(target, length) in networks for length, networks in tables.untouched.items())


def _longest(lengths: dict[int, dict[int, RouteValue]], target: int) -> RouteValue | None:
    for length in sorted(lengths, reverse=True):
        found = lengths[length].get(_masked(target, length))
        if found is not None:
            return found
    return None


def _masked(address: int, length: int) -> int:
    return address & (0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF
