"""Changes: what can be done to a kernel, one thing each. The difference actual → desired is a list of them.

Which, and in which order, is `ordering`'s business. Here are also their consequences: what may go on after
the kernel refused one.
"""

import enum
from collections.abc import Iterable

import msgspec

from ebbgate_programmer.core import firewall
from ebbgate_programmer.core.kernelstate import (
    Device,
    EndpointValue,
    KernelState,
    PathKey,
    PathValue,
    RouteKey,
    RouteValue,
    Rule,
    Way,
)


class Map(enum.Enum):
    """BPF maps that hold rows."""

    ENDPOINT = "endpoint"
    ROUTE = "route"
    PATH = "path"
    PEER = "peer"
    OWN = "own"
    CLUSTER = "cluster"
    EGRESS = "egress"


class SetFirewall(msgspec.Struct, frozen=True):
    """All nft tables anew, in one transaction, holding the sets' elements of `keep`."""

    chains: tuple[firewall.Chain, ...]
    keep: KernelState

    @property
    def script(self) -> str:
        return firewall.rebuild(self.chains, self.keep)


class UpdateSets(msgspec.Struct, frozen=True):
    """Elements of nft sets out and in, in one transaction."""

    removed: tuple[firewall.Elements, ...]
    added: tuple[firewall.Elements, ...]

    @property
    def script(self) -> str:
        return firewall.update(self.removed, self.added)


class SetDevice(msgspec.Struct, frozen=True):
    """`replace`: what is there can't be changed in place and goes first."""

    device: Device
    replace: bool


class LoadPrograms(msgspec.Struct, frozen=True):
    """Maps and programs of the object, pinned; no packet meets them yet."""

    object_hash: str


class AttachPrograms(msgspec.Struct, frozen=True):
    """The pinned programs, in place on the device: in the stead of others, packet by packet."""

    object_hash: str


class RemoveLayouts(msgspec.Struct, frozen=True):
    """Maps and programs of other versions of ours, which no packet meets any more."""

    names: tuple[str, ...]


class SetGuards(msgspec.Struct, frozen=True):
    """The guard is attached to these interfaces, and to no others."""

    interfaces: tuple[str, ...]


class SetDirect(msgspec.Struct, frozen=True):
    """The tunnel at this port has a direct way; none has if it is 0."""

    port: int


class SetSysctl(msgspec.Struct, frozen=True):
    path: str
    value: str


class AddWay(msgspec.Struct, frozen=True):
    way: Way


class RemoveWay(msgspec.Struct, frozen=True):
    way: Way


class AddRule(msgspec.Struct, frozen=True):
    rule: Rule


class RemoveRule(msgspec.Struct, frozen=True):
    rule: Rule


Key = str | RouteKey | PathKey
Value = EndpointValue | RouteValue | PathValue | None


class Put(msgspec.Struct, frozen=True):
    """Entries of a BPF map, written one after the other in this order."""

    map: Map
    entries: tuple[tuple[Key, Value], ...]


class Drop(msgspec.Struct, frozen=True):
    """Keys taken out of a BPF map, in this order; absent ones are no error."""

    map: Map
    keys: tuple[Key, ...]


class ForgetPods(msgspec.Struct, frozen=True):
    """Conntrack entries of `pods` whose fate by `before` and by `after` differs."""

    pods: tuple[str, ...]
    before: KernelState
    after: KernelState


class ForgetStale(msgspec.Struct, frozen=True):
    """Conntrack entries whose mark disagrees with their fate by `held`: of `pods`, which are covered, and of
    whoever isn't and has a mark of ours.

    For a start: the last programmer may have died after it moved endpoints, or uncovered a pod, and before it
    forgot connections.
    """

    pods: tuple[str, ...]
    held: KernelState


class ForgetSlots(msgspec.Struct, frozen=True):
    """Conntrack entries with these slots as their mark: their egress IP is gone."""

    slots: tuple[int, ...]


Change = (
    SetFirewall
    | UpdateSets
    | SetDevice
    | LoadPrograms
    | AttachPrograms
    | RemoveLayouts
    | SetGuards
    | SetDirect
    | SetSysctl
    | AddWay
    | RemoveWay
    | AddRule
    | RemoveRule
    | Put
    | Drop
    | ForgetPods
    | ForgetStale
    | ForgetSlots
)


Refusals = tuple[tuple[Key, str], ...]
"""Entries of a Put that the kernel wouldn't take, and why."""


def may_go_on(change: Change) -> bool:
    """Whether what follows `change` is still safe when the kernel refused it as a whole.

    Look-ups and sets build on each other; what is only taken away, or forgotten, can wait for the next time:
    but not a path, which is taken away so that what comes next can't lead to it. A setting can wait, too: a
    strict rp_filter drops, and where /proc/sys can't be written it may be loose already.
    """
    if isinstance(change, Drop) and change.map is Map.PATH:
        return False
    return isinstance(
        change,
        SetSysctl | Drop | ForgetPods | ForgetStale | ForgetSlots | RemoveWay | RemoveRule | RemoveLayouts,
    )


def covering(rest: Iterable[Change]) -> list[Change]:
    """What of `rest` only makes packets drop, where a refusal left the look-ups unfinished: pods that are to
    be covered are. They would leave unsteered, and there is no telling for how long.
    """
    added = [change.added for change in rest if isinstance(change, UpdateSets)]
    covered = [tuple(each for each in sets if each.name == "covered") for sets in added]
    return [UpdateSets((), sets) for sets in covered if sets]


def hold_back(rest: Iterable[Change], refused: Put, refusals: Refusals) -> list[Change]:
    """What of `rest` is safe after some entries of `refused` weren't taken.

    A missing path or endpoint drops. A missing route would let packets out, so pods aren't moved to a set
    that lacks one; and as some may stay with their old sets, nothing is taken out of the maps, and no path
    comes that waits for them to leave (those that don't wait were written before).
    """
    lame = {key.set for key, _ in refusals if isinstance(key, RouteKey)}
    safe: list[Change] = []
    for change in rest:
        if isinstance(change, Put) and change.map is Map.ENDPOINT:
            safe.append(
                Put(change.map, tuple(entry for entry in change.entries if not _is_of(entry[1], lame)))
            )
        elif not (_is_drop_of_look_up(change) or (isinstance(change, Put) and change.map is Map.PATH)):
            safe.append(change)
    return safe


def _is_drop_of_look_up(change: Change) -> bool:
    return isinstance(change, Drop) and change.map is not Map.ENDPOINT


def _is_of(value: Value, sets: set[int]) -> bool:
    return isinstance(value, EndpointValue) and value.set in sets


def names(changes: Iterable[Change]) -> list[str]:
    """For the log: what kinds of change there were, in order."""
    return [type(change).__name__ for change in changes]
