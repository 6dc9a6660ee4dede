"""Changes: the ordered difference actual → desired. Order is what this module is about.

No prefix of the list may send a packet to a wrong egress IP or out unchanged: each intermediate state gives
every packet its old fate, its new one, or none. Guards come first and go last; whatever is looked up comes
before what points to it, and goes after it; connections are forgotten when the new fate is in force:

    guards → blackholes, device, programs, sysctls, routes, rules → peers, egress, cluster → paths → routes →
    endpoints → covered → connections → endpoints, routes, paths → egress, its connections → peers, cluster →
    rules, routes
"""

import enum
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from ebbgate_programmer.core import cidrs, connections, firewall, places
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

_DEVICE_FILTER = places.rp_filter(places.DEVICE)

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class Map(enum.Enum):
    """BPF maps that hold rows."""

    ENDPOINT = "endpoint"
    ROUTE = "route"
    PATH = "path"
    PEER = "peer"
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


class SetPrograms(msgspec.Struct, frozen=True):
    """The programs of the object, loaded if need be, in place on the device."""

    object_hash: str


class SetGuards(msgspec.Struct, frozen=True):
    """The guard is attached to these interfaces, and to no others."""

    interfaces: tuple[str, ...]


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
    """Conntrack entries of `pods` whose mark disagrees with their fate by `held`.

    For a start: the last programmer may have died after it moved endpoints and before it forgot connections.
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
    | SetPrograms
    | SetGuards
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


def diff(desired: KernelState, actual: KernelState, chains: tuple[firewall.Chain, ...]) -> list[Change]:
    """What turns `actual` into `desired`, in the only order that is safe. Empty if they agree.

    `chains`: the static nft part whose signature is `desired.chains`.
    """
    guarded = _guarded(desired, actual)
    return [
        *([SetFirewall(chains, guarded)] if guarded is not actual else []),
        *_machinery(desired, guarded),
        *_rows(desired, actual, guarded),
        *_leftovers(desired, guarded),
    ]


def _guarded(desired: KernelState, actual: KernelState) -> KernelState:
    """`actual` after the nft tables were made anew, if they have to be. Guards come first, and cover all pods
    that are to be covered: who hasn't been looked up yet is dropped and not let out. The other elements come
    when their time has come.
    """
    if desired.chains == actual.chains:
        return actual
    return msgspec.structs.replace(
        actual,
        chains=desired.chains,
        covered=actual.covered | desired.covered,
        cluster=cidrs.collapse(actual.cluster | desired.cluster),
    )


def _machinery(desired: KernelState, actual: KernelState) -> list[Change]:
    """Device, programs, sysctls, routes, rules. Blackholes before everything they stand behind."""
    assert desired.device is not None
    changes: list[Change] = []
    replaced = _is_replaced(desired, actual)
    added = sorted(desired.ways - _standing(desired, actual), key=lambda way: (bool(way.device), way))
    changes += [AddWay(way) for way in added if not way.device]
    if desired.device != actual.device:
        changes.append(SetDevice(desired.device, replace=replaced and actual.device is not None))
    exchanged = replaced or desired.programs != actual.programs
    if exchanged:
        changes.append(SetPrograms(desired.programs))
    if exchanged or desired.guarded != actual.guarded:
        changes.append(SetGuards(tuple(sorted(desired.guarded))))
    for path, value in sorted(desired.sysctls.items()):
        if actual.sysctls.get(path) != value or (replaced and path == _DEVICE_FILTER):
            changes.append(SetSysctl(path, value))
    changes += [AddWay(way) for way in added if way.device]
    return [*changes, *(AddRule(rule) for rule in sorted(desired.rules - actual.rules))]


def _leftovers(desired: KernelState, actual: KernelState) -> list[Change]:
    """Rules and routes that nothing leads to any more; last, as marks may have led there until now."""
    kept = {way.place for way in desired.ways}
    stray = [way for way in sorted(_standing(desired, actual) - desired.ways) if way.place not in kept]
    rules = [RemoveRule(rule) for rule in sorted(actual.rules - desired.rules)]
    return [*rules, *(RemoveWay(way) for way in stray)]


def _is_replaced(desired: KernelState, actual: KernelState) -> bool:
    assert desired.device is not None
    return actual.device is None or _differs_for_good(desired.device, actual.device)


def _standing(desired: KernelState, actual: KernelState) -> frozenset[Way]:
    """With a device that is replaced go its routes: what was read of them won't be there."""
    if not _is_replaced(desired, actual):
        return actual.ways
    return frozenset(way for way in actual.ways if way.device != places.DEVICE)


def _differs_for_good(desired: Device, actual: Device) -> bool:
    return (desired.mac, desired.form) != (actual.mac, actual.form)


def _rows(desired: KernelState, actual: KernelState, guarded: KernelState) -> list[Change]:
    """`actual`: what connections began under; `guarded`: what is there now."""
    opened, covering, closed = _stages(desired, guarded)
    after = msgspec.structs.replace(
        actual,
        covered=desired.covered,
        cluster=desired.cluster,
        endpoints=desired.endpoints,
        routes=desired.routes,
        paths=desired.paths,
    )
    pods = connections.affected(after, actual)
    # A path that is gone though still asked for must drop, and do so before new routes lead to it.
    asked = _asked(desired)
    closed_paths = {key: path for key, path in actual.paths.items() if key in asked}
    other_paths = {key: path for key, path in actual.paths.items() if key not in asked}
    # So must a pod that stays covered without a look-up, before cluster CIDRs go out from under its old one.
    lost = {pod: at for pod, at in actual.endpoints.items() if pod in desired.covered}
    left = {pod: at for pod, at in actual.endpoints.items() if pod not in desired.covered}
    return [
        *_put(Map.PEER, dict.fromkeys(sorted(desired.peers - actual.peers)), {}),
        *_put(Map.CLUSTER, dict.fromkeys(sorted(desired.internal - actual.internal)), {}),
        *_put(Map.EGRESS, dict.fromkeys(sorted(desired.sources - actual.sources)), {}),
        *_update(guarded, opened),
        *_drop(Map.PATH, desired.paths, closed_paths),
        *_put(Map.PATH, desired.paths, actual.paths),
        *_put(Map.ROUTE, _specific_first(desired.routes), actual.routes),
        *_put(Map.ENDPOINT, desired.endpoints, actual.endpoints),
        *_drop(Map.ENDPOINT, desired.endpoints, lost),
        *_update(opened, covering),
        *([ForgetPods(pods, actual, after)] if pods else []),
        *_drop(Map.ENDPOINT, desired.endpoints, left),
        *_drop(Map.ROUTE, desired.routes, _general_first(actual.routes)),
        *_drop(Map.PATH, desired.paths, other_paths),
        *_update(covering, closed),
        # After the element is gone: a packet between can't begin the connection again with the old address.
        *_forget_slots(desired, actual),
        *_drop(Map.EGRESS, dict.fromkeys(desired.sources), dict.fromkeys(sorted(actual.sources))),
        *_drop(Map.CLUSTER, dict.fromkeys(desired.internal), dict.fromkeys(sorted(actual.internal))),
        *_drop(Map.PEER, dict.fromkeys(desired.peers), dict.fromkeys(sorted(actual.peers))),
    ]


def _stages(desired: KernelState, actual: KernelState) -> tuple[KernelState, KernelState, KernelState]:
    """nft's sets in three steps: egress and cluster CIDRs in; covered, and cluster CIDRs out, once look-ups
    are there; at the end egress out. A destination that was and will be left alone is so throughout.
    """
    opened = msgspec.structs.replace(
        actual,
        egress={**actual.egress, **desired.egress},
        uplinks={**actual.uplinks, **desired.uplinks},
        cluster=cidrs.collapse(actual.cluster | desired.cluster),
    )
    covering = msgspec.structs.replace(opened, covered=desired.covered, cluster=desired.cluster)
    closed = msgspec.structs.replace(covering, egress=desired.egress, uplinks=desired.uplinks)
    return opened, covering, closed


def _forget_slots(desired: KernelState, actual: KernelState) -> list[Change]:
    changed = sorted(slot for slot, ip in actual.egress.items() if desired.egress.get(slot) != ip)
    return [ForgetSlots(tuple(changed))] if changed else []


def _asked(state: KernelState) -> set[PathKey]:
    """Paths that packets of local pods are looked up by."""
    groups: dict[int, set[int]] = {}
    for key, value in state.routes.items():
        groups.setdefault(key.set, set()).add(value.group)
    return {PathKey(group, at.bucket) for at in state.endpoints.values() for group in groups.get(at.set, ())}


def may_go_on(change: Change) -> bool:
    """Whether what follows `change` is still safe when the kernel refused it as a whole.

    Look-ups and sets build on each other; what is only taken away, or forgotten, can wait for the next time.
    So can a setting: a strict rp_filter drops, and where /proc/sys can't be written it may be loose already.
    """
    return isinstance(
        change, SetSysctl | Drop | ForgetPods | ForgetStale | ForgetSlots | RemoveWay | RemoveRule
    )


def hold_back(rest: Iterable[Change], refused: Put, refusals: Refusals) -> list[Change]:
    """What of `rest` is safe after some entries of `refused` weren't taken.

    A missing path or endpoint drops. A missing route would let packets out, so pods aren't moved to a set
    that lacks one; and as some may stay with their old sets, nothing is taken out of the maps.
    """
    lame = {key.set for key, _ in refusals if isinstance(key, RouteKey)}
    safe: list[Change] = []
    for change in rest:
        if isinstance(change, Put) and change.map is Map.ENDPOINT:
            safe.append(
                Put(change.map, tuple(entry for entry in change.entries if not _is_of(entry[1], lame)))
            )
        elif not (isinstance(change, Drop) and change.map is not Map.ENDPOINT):
            safe.append(change)
    return safe


def _is_of(value: Value, sets: set[int]) -> bool:
    return isinstance(value, EndpointValue) and value.set in sets


def _put(which: Map, desired: Mapping[KeyT, ValueT], actual: Mapping[KeyT, ValueT]) -> list[Change]:
    entries = [(key, value) for key, value in desired.items() if key not in actual or actual[key] != value]
    return [Put(which, tuple(entries))] if entries else []  # type: ignore[arg-type]


def _drop(which: Map, desired: Mapping[KeyT, ValueT], actual: Mapping[KeyT, ValueT]) -> list[Change]:
    keys = [key for key in actual if key not in desired]
    return [Drop(which, tuple(keys))] if keys else []  # type: ignore[arg-type]


def _specific_first(routes: Mapping[RouteKey, RouteValue]) -> dict[RouteKey, RouteValue]:
    return dict(sorted(routes.items(), key=lambda item: -item[0].length))


def _general_first(routes: Mapping[RouteKey, RouteValue]) -> dict[RouteKey, RouteValue]:
    return dict(sorted(routes.items(), key=lambda item: item[0].length))


def _update(before: KernelState, after: KernelState) -> list[Change]:
    removed, added = firewall.elements_between(before, after)
    return [UpdateSets(removed, added)] if removed or added else []


def names(changes: Iterable[Change]) -> list[str]:
    """For the log: what kinds of change there were, in order."""
    return [type(change).__name__ for change in changes]
