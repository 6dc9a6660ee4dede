"""diff(desired, actual) → Changes, ordered. Order is what this module is about.

No prefix of the list may send a packet to a wrong egress IP or out unchanged: each intermediate state gives
every packet its old fate, its new one, or none. Guards come first and go last; whatever is looked up comes
before what points to it, and goes after it; connections are forgotten when the new fate is in force:

    guards → blackholes, device, maps and programs, sysctls → peers, egress, cluster → paths → routes →
    endpoints → programs attached, the direct way, routes, rules → covered → connections → endpoints, routes,
    paths → egress, its connections → peers, cluster → rules, routes, other layouts

A path that gets a value is one write, and moves all that asks for it. Where the same list also moves
pods or destinations away from it, they would take the new path by their old routes, or the old path by new
ones: so it is out of the map from before the first of these writes until after the last, and drops.
"""

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from ebbgate_programmer.core import changes, cidrs, connections, firewall, places, sharded
from ebbgate_programmer.core.kernelstate import (
    Device,
    EndpointValue,
    KernelState,
    PathKey,
    PathValue,
    RouteKey,
    RouteValue,
    Way,
)

_DEVICE_FILTER = places.rp_filter(places.DEVICE)

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


def diff(
    desired: KernelState, actual: KernelState, chains: tuple[firewall.Chain, ...]
) -> list[changes.Change]:
    """What turns `actual` into `desired`, in the only order that is safe. Empty if they agree.

    `chains`: the static nft part whose signature is `desired.chains`.
    """
    if desired is actual or desired == actual:
        return []
    guarded = _guarded(desired, actual)
    stages, tables = _Stages.of(desired, guarded), _Tables.of(desired, actual)
    return [
        *([changes.SetFirewall(chains, guarded)] if guarded is not actual else []),
        *_machinery(desired, guarded),
        *_permits(desired, actual),
        *_update(guarded, stages.opened),
        *_look_ups(tables),
        *_roads(desired, guarded),
        *_update(stages.opened, stages.covering),
        *_forget_pods(desired, actual),
        *_unused(tables),
        *_update(stages.covering, stages.closed),
        # After the element is gone: a packet between can't begin the connection again with the old address.
        *_forget_slots(desired, actual),
        *_refusals(desired, actual),
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
        cluster=_both(actual.cluster, desired.cluster),
    )


def _both(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    return one if one == other else cidrs.collapse(one | other)


def _machinery(desired: KernelState, actual: KernelState) -> list[changes.Change]:
    """Device, maps, programs, sysctls. Blackholes before everything they stand behind."""
    assert desired.device is not None
    todo: list[changes.Change] = []
    if actual.direct and not desired.direct:
        todo.append(changes.SetDirect(0))
    replaced = _is_replaced(desired, actual)
    todo += [changes.AddWay(way) for way in _added_ways(desired, actual) if not way.device]
    if desired.device != actual.device:
        todo.append(changes.SetDevice(desired.device, replace=replaced and actual.device is not None))
    if desired.loaded != actual.loaded:
        todo.append(changes.LoadPrograms(desired.loaded))
    for path, value in sorted(desired.sysctls.items()):
        if actual.sysctls.get(path) != value or (replaced and path == _DEVICE_FILTER):
            todo.append(changes.SetSysctl(path, value))
    return todo


def _roads(desired: KernelState, actual: KernelState) -> list[changes.Change]:
    """What leads packets to the look-ups, which are there by now: a new version takes over at once."""
    todo: list[changes.Change] = []
    exchanged = _is_replaced(desired, actual) or desired.loaded != actual.loaded
    if exchanged or desired.programs != actual.programs:
        todo.append(changes.AttachPrograms(desired.programs))
    if exchanged or desired.guarded != actual.guarded:
        todo.append(changes.SetGuards(tuple(sorted(desired.guarded))))
    if desired.direct and (exchanged or desired.direct != actual.direct):
        todo.append(changes.SetDirect(desired.direct))
    todo += [changes.AddWay(way) for way in _added_ways(desired, actual) if way.device]
    return [*todo, *(changes.AddRule(rule) for rule in sorted(desired.rules - actual.rules))]


def _added_ways(desired: KernelState, actual: KernelState) -> list[Way]:
    return sorted(desired.ways - _standing(desired, actual))


def _leftovers(desired: KernelState, actual: KernelState) -> list[changes.Change]:
    """Rules and routes that nothing leads to any more; last, as marks may have led there until now."""
    kept = {way.place for way in desired.ways}
    stray = [way for way in sorted(_standing(desired, actual) - desired.ways) if way.place not in kept]
    rules = [changes.RemoveRule(rule) for rule in sorted(actual.rules - desired.rules)]
    others = [changes.RemoveLayouts(tuple(sorted(actual.others)))] if actual.others else []
    return [*rules, *(changes.RemoveWay(way) for way in stray), *others]


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


def _permits(desired: KernelState, actual: KernelState) -> list[changes.Change]:
    """Into the maps that say what may pass."""
    return [
        *_put(changes.Map.PEER, [(peer, None) for peer in sorted(desired.peers - actual.peers)]),
        *_put(changes.Map.OWN, [(ip, None) for ip in sorted(desired.own - actual.own)]),
        *_put(changes.Map.CLUSTER, [(cidr, None) for cidr in sorted(desired.internal - actual.internal)]),
        *_put(changes.Map.EGRESS, [(ip, None) for ip in sorted(desired.sources - actual.sources)]),
    ]


class _Tables(msgspec.Struct, frozen=True):
    """What comes into the tables that look-ups go by, and what goes out. Paths go early that packets of
    local pods will still be looked up by, and endpoints of pods that stay covered. `paths_paused`: out
    meanwhile.
    """

    paths: list[tuple[PathKey, PathValue]]
    paths_paused: list[tuple[PathKey, PathValue]]
    routes: list[tuple[RouteKey, RouteValue]]
    endpoints: list[tuple[str, EndpointValue]]
    paths_early: list[PathKey]
    endpoints_early: list[str]
    endpoints_late: list[str]
    routes_late: list[RouteKey]
    paths_late: list[PathKey]

    @classmethod
    def of(cls, desired: KernelState, actual: KernelState) -> "_Tables":
        paths, paths_out = _come_and_gone(desired.paths, actual.paths)
        routes, routes_out = _come_and_gone(desired.routes, actual.routes)
        endpoints, endpoints_out = _come_and_gone(desired.endpoints, actual.endpoints)
        asked = _asked(desired, desired.endpoints.values()) if paths_out else set()
        left = _left(desired, actual, [key for key, _ in paths])
        endpoints_out.sort()
        return cls(
            paths=[entry for entry in paths if entry[0] not in left],
            paths_paused=[entry for entry in paths if entry[0] in left],
            routes=sorted(routes, key=lambda item: (-item[0].length, item[0].set, item[0].network)),
            endpoints=sorted(endpoints, key=operator.itemgetter(0)),
            paths_early=[key for key in paths_out if key in asked],
            endpoints_early=[pod for pod in endpoints_out if pod in desired.covered],
            endpoints_late=[pod for pod in endpoints_out if pod not in desired.covered],
            routes_late=sorted(routes_out, key=lambda key: (key.length, key.set, key.network)),
            paths_late=[key for key in paths_out if key not in asked],
        )


def _look_ups(tables: _Tables) -> list[changes.Change]:
    """Into the maps, from the end to which a packet's look-ups lead back to their beginning."""
    return [
        # A path that is gone though still asked for must drop, and do so before new routes lead to it.
        *_drop(changes.Map.PATH, [*tables.paths_early, *(key for key, _ in tables.paths_paused)]),
        *_put(changes.Map.PATH, tables.paths),
        *_put(changes.Map.ROUTE, tables.routes),
        *_put(changes.Map.ENDPOINT, tables.endpoints),
        # So must a pod without a look-up, before cluster CIDRs go out from under its old one.
        *_drop(changes.Map.ENDPOINT, tables.endpoints_early),
    ]


def _unused(tables: _Tables) -> list[changes.Change]:
    """Out of the maps, from the beginning of the look-ups to their end."""
    return [
        *_drop(changes.Map.ENDPOINT, tables.endpoints_late),
        *_drop(changes.Map.ROUTE, tables.routes_late),
        *_drop(changes.Map.PATH, tables.paths_late),
        *_put(changes.Map.PATH, tables.paths_paused),
    ]


def _refusals(desired: KernelState, actual: KernelState) -> list[changes.Change]:
    """Out of the maps that say what may pass."""
    return [
        *_drop(changes.Map.EGRESS, sorted(actual.sources - desired.sources)),
        *_drop(changes.Map.CLUSTER, sorted(actual.internal - desired.internal)),
        *_drop(changes.Map.OWN, sorted(actual.own - desired.own)),
        *_drop(changes.Map.PEER, sorted(actual.peers - desired.peers)),
    ]


class _Stages(msgspec.Struct, frozen=True):
    """nft's sets in three steps: egress and cluster CIDRs in; covered, and cluster CIDRs out, once look-ups
    are there; at the end egress out. A destination that was and will be left alone is so throughout.
    """

    opened: KernelState
    covering: KernelState
    closed: KernelState

    @classmethod
    def of(cls, desired: KernelState, actual: KernelState) -> "_Stages":
        opened = msgspec.structs.replace(
            actual,
            egress={**actual.egress, **desired.egress},
            uplinks={**actual.uplinks, **desired.uplinks},
            cluster=_both(actual.cluster, desired.cluster),
        )
        covering = msgspec.structs.replace(opened, covered=desired.covered, cluster=desired.cluster)
        closed = msgspec.structs.replace(covering, egress=desired.egress, uplinks=desired.uplinks)
        return cls(opened, covering, closed)


def _forget_pods(desired: KernelState, actual: KernelState) -> list[changes.Change]:
    """Of another layout's maps nothing was read: what connections began under isn't known, and whose mark
    disagrees with its fate is forgotten as at every start.
    """
    after = msgspec.structs.replace(
        actual,
        covered=desired.covered,
        cluster=desired.cluster,
        endpoints=desired.endpoints,
        routes=desired.routes,
        paths=desired.paths,
    )
    pods = () if actual.others else connections.affected(after, actual)
    return [changes.ForgetPods(pods, actual, after)] if pods else []


def _forget_slots(desired: KernelState, actual: KernelState) -> list[changes.Change]:
    changed = sorted(slot for slot, ip in actual.egress.items() if desired.egress.get(slot) != ip)
    return [changes.ForgetSlots(tuple(changed))] if changed else []


def _left(desired: KernelState, actual: KernelState, changed: Sequence[PathKey]) -> set[PathKey]:
    """Of `changed` paths those that something goes away from in the same list: by the look-ups of before they
    are still asked for. What comes to a path comes after it.
    """
    if not changed:
        return set()
    if desired.cluster != actual.cluster:
        return set(changed)
    moves = list(sharded.differences(desired.endpoints, actual.endpoints))
    before = [old for _, _, old in moves if isinstance(old, EndpointValue)]
    return set(changed) & _asked(actual, before) if before else set()


def _asked(state: KernelState, endpoints: Iterable[EndpointValue]) -> set[PathKey]:
    """Paths that packets of these are looked up by."""
    groups: dict[int, set[int]] = {}
    for key, value in state.routes.items():
        groups.setdefault(key.set, set()).add(value.group)
    return {PathKey(group, at.bucket) for at in set(endpoints) for group in groups.get(at.set, ())}


def _come_and_gone(
    desired: Mapping[KeyT, ValueT], actual: Mapping[KeyT, ValueT]
) -> tuple[list[tuple[KeyT, ValueT]], list[KeyT]]:
    """Entries to be written, new ones and those with another value, and keys to be taken out."""
    come: list[tuple[KeyT, ValueT]] = []
    gone: list[KeyT] = []
    for key, new, _ in sharded.differences(desired, actual):
        if isinstance(new, sharded.Absent):
            gone.append(key)
        else:
            come.append((key, new))
    return come, gone


def _put(which: changes.Map, entries: Sequence[tuple[changes.Key, changes.Value]]) -> list[changes.Change]:
    return [changes.Put(which, tuple(entries))] if entries else []


def _drop(which: changes.Map, keys: Sequence[changes.Key]) -> list[changes.Change]:
    return [changes.Drop(which, tuple(keys))] if keys else []


def _update(before: KernelState, after: KernelState) -> list[changes.Change]:
    removed, added = firewall.elements_between(before, after)
    return [changes.UpdateSets(removed, added)] if removed or added else []
