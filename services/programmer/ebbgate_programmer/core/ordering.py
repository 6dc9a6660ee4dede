"""diff(desired, actual) → Changes, ordered. Order is what this module is about.

No prefix of the list may send a packet to a wrong egress IP or out unchanged: each intermediate state gives
every packet its old fate, its new one, or none. Guards come first and go last; whatever is looked up comes
before what points to it, and goes after it; connections are forgotten when the new fate is in force:

    guards → blackholes, device, maps and programs, sysctls → peers, egress, cluster → paths → routes →
    endpoints → programs attached, the direct way, routes, rules → covered → connections → endpoints, routes,
    paths → egress, its connections → peers, cluster → rules, routes, other layouts
"""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from ebbgate_programmer.core import changes, cidrs, connections, firewall, places
from ebbgate_programmer.core.kernelstate import Device, KernelState, PathKey, RouteKey, RouteValue, Way

_DEVICE_FILTER = places.rp_filter(places.DEVICE)

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


def diff(
    desired: KernelState, actual: KernelState, chains: tuple[firewall.Chain, ...]
) -> list[changes.Change]:
    """What turns `actual` into `desired`, in the only order that is safe. Empty if they agree.

    `chains`: the static nft part whose signature is `desired.chains`.
    """
    if desired == actual:
        return []
    guarded = _guarded(desired, actual)
    stages = _Stages.of(desired, guarded)
    return [
        *([changes.SetFirewall(chains, guarded)] if guarded is not actual else []),
        *_machinery(desired, guarded),
        *_permits(desired, actual),
        *_update(guarded, stages.opened),
        *_look_ups(desired, actual),
        *_roads(desired, guarded),
        *_update(stages.opened, stages.covering),
        *_forget_pods(desired, actual),
        *_unused(desired, actual),
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
        cluster=cidrs.collapse(actual.cluster | desired.cluster),
    )


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
        *_put(changes.Map.PEER, dict.fromkeys(sorted(desired.peers - actual.peers)), {}),
        *_put(changes.Map.OWN, dict.fromkeys(sorted(desired.own - actual.own)), {}),
        *_put(changes.Map.CLUSTER, dict.fromkeys(sorted(desired.internal - actual.internal)), {}),
        *_put(changes.Map.EGRESS, dict.fromkeys(sorted(desired.sources - actual.sources)), {}),
    ]


def _look_ups(desired: KernelState, actual: KernelState) -> list[changes.Change]:
    """Into the maps, from the end to which a packet's look-ups lead back to their beginning."""
    # A path that is gone though still asked for must drop, and do so before new routes lead to it.
    asked = _asked(desired)
    closed = {key: path for key, path in actual.paths.items() if key in asked}
    # So must a pod that stays covered without a look-up, before cluster CIDRs go out from under its old one.
    lost = {pod: at for pod, at in actual.endpoints.items() if pod in desired.covered}
    return [
        *_drop(changes.Map.PATH, desired.paths, closed),
        *_put(changes.Map.PATH, desired.paths, actual.paths),
        *_put(changes.Map.ROUTE, _specific_first(desired.routes), actual.routes),
        *_put(changes.Map.ENDPOINT, desired.endpoints, actual.endpoints),
        *_drop(changes.Map.ENDPOINT, desired.endpoints, lost),
    ]


def _unused(desired: KernelState, actual: KernelState) -> list[changes.Change]:
    """Out of the maps, from the beginning of the look-ups to their end."""
    asked = _asked(desired)
    return [
        *_drop(
            changes.Map.ENDPOINT,
            desired.endpoints,
            {pod: at for pod, at in actual.endpoints.items() if pod not in desired.covered},
        ),
        *_drop(changes.Map.ROUTE, desired.routes, _general_first(actual.routes)),
        *_drop(
            changes.Map.PATH, desired.paths, {key: at for key, at in actual.paths.items() if key not in asked}
        ),
    ]


def _refusals(desired: KernelState, actual: KernelState) -> list[changes.Change]:
    """Out of the maps that say what may pass."""
    return [
        *_drop(changes.Map.EGRESS, dict.fromkeys(desired.sources), dict.fromkeys(sorted(actual.sources))),
        *_drop(changes.Map.CLUSTER, dict.fromkeys(desired.internal), dict.fromkeys(sorted(actual.internal))),
        *_drop(changes.Map.OWN, dict.fromkeys(desired.own), dict.fromkeys(sorted(actual.own))),
        *_drop(changes.Map.PEER, dict.fromkeys(desired.peers), dict.fromkeys(sorted(actual.peers))),
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
            cluster=cidrs.collapse(actual.cluster | desired.cluster),
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


def _asked(state: KernelState) -> set[PathKey]:
    """Paths that packets of local pods are looked up by."""
    groups: dict[int, set[int]] = {}
    for key, value in state.routes.items():
        groups.setdefault(key.set, set()).add(value.group)
    places = set(state.endpoints.values())
    return {PathKey(group, at.bucket) for at in places for group in groups.get(at.set, ())}


def _put(
    which: changes.Map, desired: Mapping[KeyT, ValueT], actual: Mapping[KeyT, ValueT]
) -> list[changes.Change]:
    entries = [(key, value) for key, value in desired.items() if key not in actual or actual[key] != value]
    return [changes.Put(which, tuple(entries))] if entries else []  # type: ignore[arg-type]


def _drop(
    which: changes.Map, desired: Mapping[KeyT, ValueT], actual: Mapping[KeyT, ValueT]
) -> list[changes.Change]:
    keys = [key for key in actual if key not in desired]
    return [changes.Drop(which, tuple(keys))] if keys else []  # type: ignore[arg-type]


def _specific_first(routes: Mapping[RouteKey, RouteValue]) -> dict[RouteKey, RouteValue]:
    return dict(sorted(routes.items(), key=lambda item: -item[0].length))


def _general_first(routes: Mapping[RouteKey, RouteValue]) -> dict[RouteKey, RouteValue]:
    return dict(sorted(routes.items(), key=lambda item: item[0].length))


def _update(before: KernelState, after: KernelState) -> list[changes.Change]:
    removed, added = firewall.elements_between(before, after)
    return [changes.UpdateSets(removed, added)] if removed or added else []
