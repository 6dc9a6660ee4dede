"""A kernel that behaves: it takes Changes one entry at a time and answers what happens to a packet.

It refuses what the real one refuses (routes over a device that isn't there, elements that exist already or
don't), and asks `watch` after every single write, inside bulk changes too: that is where an order is wrong.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from ebbgate_programmer.core import changes, decisions, firewall, marks, places
from ebbgate_programmer.core.kernelstate import KernelState


class FakeKernel:
    def __init__(self, state: KernelState, watch: Callable[[KernelState], None] = lambda _: None) -> None:
        self.state = state
        self._watch = watch
        self.forgotten: list[changes.ForgetPods] = []
        self.forgotten_slots: list[int] = []

    def apply(self, todo: Iterable[changes.Change]) -> None:
        for change in todo:
            _take(change, self)

    def write(self, **fields: Any) -> None:
        self.state = msgspec.structs.replace(self.state, **fields)
        self._watch(self.state)


def fate(state: KernelState, source: str, destination: str) -> decisions.Decision:
    """Original direction, a new connection: the oracle's answer, and the guard's."""
    answer = decisions.decide(decisions.Tables(state), source, destination)
    if answer.kind is decisions.Kind.LOCAL and state.egress.get(answer.slot) not in state.sources:
        return decisions.DROPPED  # the guards: it would leave with an address that isn't the slot's
    return answer


def is_stopped(state: KernelState, source: str, destination: str) -> bool:
    """Would the guard at the uplinks take a packet that nobody marked?"""
    tables = decisions.Tables(msgspec.structs.replace(state, cluster=state.internal))
    untouched = decisions.is_untouched(tables, destination)
    return bool(state.guarded) and source in state.endpoints and not untouched


@functools.singledispatch
def _take(change: changes.Change, kernel: FakeKernel) -> None:
    raise AssertionError(change)


@_take.register
def _(change: changes.SetFirewall, kernel: FakeKernel) -> None:
    keep = change.keep
    kernel.write(
        chains=firewall.signature(change.chains),
        covered=keep.covered,
        cluster=keep.cluster,
        egress=keep.egress,
        uplinks=keep.uplinks,
    )


@_take.register
def _(change: changes.UpdateSets, kernel: FakeKernel) -> None:
    assert kernel.state.chains, "no table"
    sets = {held.place: set(held.elements) for held in firewall.elements(kernel.state)}
    for held in change.removed:
        assert sets[held.place] >= set(held.elements), "ENOENT"
        sets[held.place] -= set(held.elements)
    for held in change.added:
        if held.name == places.LEFT:
            continue
        assert sets[held.place].isdisjoint(held.elements), "EEXIST"
        sets[held.place] |= set(held.elements)
    kernel.write(
        covered=frozenset(_of_both(sets, "covered")),
        cluster=frozenset(_of_both(sets, "cluster")),
        egress=dict(_pairs(sets, "egress")),
        uplinks={slot: marks.field_of(int(mark, 16)) for slot, mark in _pairs(sets, "uplinks")},
    )
    agree = {held.place: set(held.elements) for held in firewall.elements(kernel.state)}
    assert agree == sets, "the guards' sets disagree with the others"


Sets = dict[tuple[str, str, str], set[str]]


def _of_both(sets: Sets, name: str) -> set[str]:
    return sets["ip", places.NFT_TABLE, name] | sets["ip6", places.NFT_TABLE, name]


def _pairs(sets: Sets, name: str) -> list[tuple[int, str]]:
    pairs = [text.split(" : ") for text in _of_both(sets, name)]
    assert len({mark for mark, _ in pairs}) == len(pairs), "two elements of one slot"
    return [(marks.field_of(int(mark, 16)), value) for mark, value in pairs]


@_take.register
def _(change: changes.SetDevice, kernel: FakeKernel) -> None:
    if change.replace:
        assert kernel.state.device is not None
        ways = frozenset(way for way in kernel.state.ways if way.device != places.DEVICE)
        kernel.write(
            device=None, ways=ways, programs="", direct=-1, sysctls=_without_device(kernel.state.sysctls)
        )
    kernel.write(device=change.device)


def _without_device(sysctls: dict[str, str]) -> dict[str, str]:
    return {path: value for path, value in sysctls.items() if "/ebbgate0/" not in path}


@_take.register
def _(change: changes.LoadPrograms, kernel: FakeKernel) -> None:
    kernel.write(loaded=change.object_hash)


@_take.register
def _(change: changes.AttachPrograms, kernel: FakeKernel) -> None:
    assert kernel.state.device is not None
    assert kernel.state.loaded == change.object_hash, "no such program to attach"
    kernel.write(programs=change.object_hash)


@_take.register
def _(change: changes.RemoveLayouts, kernel: FakeKernel) -> None:
    assert kernel.state.programs == kernel.state.loaded, "the others are still in use"
    kernel.write(others=kernel.state.others - set(change.names))


@_take.register
def _(change: changes.SetGuards, kernel: FakeKernel) -> None:
    assert kernel.state.loaded, "no program to attach"
    kernel.write(guarded=frozenset(change.interfaces))


@_take.register
def _(change: changes.SetDirect, kernel: FakeKernel) -> None:
    assert kernel.state.loaded, "no map to write it to"
    assert not change.port or kernel.state.programs == kernel.state.loaded, "nobody knows what comes that way"
    kernel.write(direct=change.port)


@_take.register
def _(change: changes.SetSysctl, kernel: FakeKernel) -> None:
    assert kernel.state.device is not None or "/ebbgate0/" not in change.path
    kernel.write(sysctls={**kernel.state.sysctls, change.path: change.value})


@_take.register
def _(change: changes.AddWay, kernel: FakeKernel) -> None:
    way = change.way
    assert way.device != places.DEVICE or kernel.state.device is not None, "ENODEV"
    assert not way.program or kernel.state.loaded, "no program to put in a route"
    blackholes = {(each.family, each.table) for each in kernel.state.ways if not each.device}
    assert not way.device or (way.family, way.table) in blackholes, "nothing stands behind the route"
    others = frozenset(each for each in kernel.state.ways if each.place != way.place)
    kernel.write(ways=others | {change.way})


@_take.register
def _(change: changes.RemoveWay, kernel: FakeKernel) -> None:
    assert change.way in kernel.state.ways, "ESRCH"
    kernel.write(ways=kernel.state.ways - {change.way})


@_take.register
def _(change: changes.AddRule, kernel: FakeKernel) -> None:
    blackholes = {(way.family, way.table) for way in kernel.state.ways if not way.device}
    rule = change.rule
    assert (rule.family, rule.table) in blackholes, "a rule to a table that doesn't end in a blackhole"
    kernel.write(rules=kernel.state.rules | {change.rule})


@_take.register
def _(change: changes.RemoveRule, kernel: FakeKernel) -> None:
    kernel.write(rules=kernel.state.rules - {change.rule})


_FIELDS = {
    changes.Map.ENDPOINT: "endpoints",
    changes.Map.ROUTE: "routes",
    changes.Map.PATH: "paths",
    changes.Map.PEER: "peers",
    changes.Map.OWN: "own",
    changes.Map.CLUSTER: "internal",
    changes.Map.EGRESS: "sources",
}
_KEYS_ONLY = ("peers", "own", "internal", "sources")


@_take.register
def _(change: changes.Put, kernel: FakeKernel) -> None:
    field = _FIELDS[change.map]
    for key, value in change.entries:
        held = getattr(kernel.state, field)
        kernel.write(**{field: held | {key} if field in _KEYS_ONLY else {**held, key: value}})


@_take.register
def _(change: changes.Drop, kernel: FakeKernel) -> None:
    field = _FIELDS[change.map]
    for key in change.keys:
        held = getattr(kernel.state, field)
        left = held - {key} if field in _KEYS_ONLY else {k: v for k, v in held.items() if k != key}
        kernel.write(**{field: left})


@_take.register
def _(change: changes.ForgetPods, kernel: FakeKernel) -> None:
    kernel.forgotten.append(change)


@_take.register
def _(change: changes.ForgetSlots, kernel: FakeKernel) -> None:
    kernel.forgotten_slots += change.slots
