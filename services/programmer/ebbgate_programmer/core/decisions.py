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

import msgspec

from ebbgate_bus.contracts import rows
from ebbgate_programmer.core import addresses, places
from ebbgate_programmer.core.kernelstate import Action, KernelState, PathKey, RouteValue

_NEVER = (*places.NEVER["ipv4"], *places.NEVER["ipv6"])


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
        self.untouched: dict[int, set[int]] = {}
        for network, length in map(addresses.prefix, (*state.cluster, *_NEVER)):
            self.untouched.setdefault(length, set()).add(network)


def decide(tables: Tables, source: str, destination: str) -> Decision:
    """What becomes of a packet from pod `source` to the real destination (after DNAT), of one family."""
    if source not in tables.state.covered or is_untouched(tables, destination):
        return UNTOUCHED
    return classify(tables, source, addresses.number(destination))


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


def is_untouched(tables: Tables, destination: str) -> bool:
    """Whether the destination is the cluster's, or one that is never steered."""
    target = addresses.number(destination)
    return any(addresses.masked(target, n) in networks for n, networks in tables.untouched.items())


def _longest(lengths: dict[int, dict[int, RouteValue]], target: int) -> RouteValue | None:
    for length in sorted(lengths, reverse=True):
        found = lengths[length].get(addresses.masked(target, length))
        if found is not None:
            return found
    return None
