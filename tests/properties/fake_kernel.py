"""A kernel that behaves: it takes Changes one entry at a time and answers what happens to a packet.

It refuses what the real one refuses (routes over a device that isn't there, elements that exist already or
don't), and asks `watch` after every single write, inside bulk changes too: that is where an order is wrong.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from ebbgate_programmer.core import changes, decisions, firewall, marks
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
    if answer.kind is decisions.Kind.LOCAL and answer.slot not in state.egress:
        return decisions.DROPPED  # the guard: it would leave with an address that isn't the slot's
    return answer


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
        covered6=keep.covered6,
        cluster6=keep.cluster6,
        egress=keep.egress,
    )


@_take.register
def _(change: changes.UpdateSets, kernel: FakeKernel) -> None:
    assert kernel.state.chains, "no table"
    sets = {(held.family, held.name): set(held.elements) for held in firewall.elements(kernel.state)}
    for held in change.removed:
        assert sets[held.family, held.name] >= set(held.elements), "ENOENT"
        sets[held.family, held.name] -= set(held.elements)
    for held in change.added:
        assert sets[held.family, held.name].isdisjoint(held.elements), "EEXIST"
        sets[held.family, held.name] |= set(held.elements)
    pairs = [text.split(" : ") for text in sets["ip", "egress"]]
    egress = {marks.field_of(int(mark, 16)): ip for mark, ip in pairs}
    assert len(egress) == len(pairs), "two elements of one slot"
    kernel.write(
        covered=frozenset(sets["ip", "covered"]),
        cluster=frozenset(sets["ip", "cluster"]),
        covered6=frozenset(sets["ip6", "covered"]),
        cluster6=frozenset(sets["ip6", "cluster"]),
        egress=egress,
    )
    agree = {(held.family, held.name): set(held.elements) for held in firewall.elements(kernel.state)}
    assert agree == sets, "the guards' sets disagree with the map"


@_take.register
def _(change: changes.SetDevice, kernel: FakeKernel) -> None:
    if change.replace:
        assert kernel.state.device is not None
        ways = frozenset(way for way in kernel.state.ways if not way.device)
        kernel.write(device=None, ways=ways, programs="", sysctls=_without_device(kernel.state.sysctls))
    kernel.write(device=change.device)


def _without_device(sysctls: dict[str, str]) -> dict[str, str]:
    return {path: value for path, value in sysctls.items() if "/ebbgate0/" not in path}


@_take.register
def _(change: changes.SetPrograms, kernel: FakeKernel) -> None:
    assert kernel.state.device is not None
    kernel.write(programs=change.object_hash)


@_take.register
def _(change: changes.SetSysctl, kernel: FakeKernel) -> None:
    assert kernel.state.device is not None or "/ebbgate0/" not in change.path
    kernel.write(sysctls={**kernel.state.sysctls, change.path: change.value})


@_take.register
def _(change: changes.AddWay, kernel: FakeKernel) -> None:
    assert not change.way.device or kernel.state.device is not None, "ENODEV"
    assert not change.way.program or kernel.state.programs, "no program to put in a route"
    at = (change.way.table, change.way.metric)
    others = frozenset(way for way in kernel.state.ways if (way.table, way.metric) != at)
    kernel.write(ways=others | {change.way})


@_take.register
def _(change: changes.RemoveWay, kernel: FakeKernel) -> None:
    kernel.write(ways=kernel.state.ways - {change.way})


@_take.register
def _(change: changes.AddRule, kernel: FakeKernel) -> None:
    blackholes = {way.table for way in kernel.state.ways if not way.device}
    assert change.rule.table in blackholes, "a rule to a table that doesn't end in a blackhole"
    kernel.write(rules=kernel.state.rules | {change.rule})


@_take.register
def _(change: changes.RemoveRule, kernel: FakeKernel) -> None:
    kernel.write(rules=kernel.state.rules - {change.rule})


_FIELDS = {
    changes.Map.ENDPOINT: "endpoints",
    changes.Map.ROUTE: "routes",
    changes.Map.PATH: "paths",
    changes.Map.PEER: "peers",
}


@_take.register
def _(change: changes.Put, kernel: FakeKernel) -> None:
    field = _FIELDS[change.map]
    for key, value in change.entries:
        held = getattr(kernel.state, field)
        kernel.write(**{field: held | {key} if field == "peers" else {**held, key: value}})


@_take.register
def _(change: changes.Drop, kernel: FakeKernel) -> None:
    field = _FIELDS[change.map]
    for key in change.keys:
        held = getattr(kernel.state, field)
        left = held - {key} if field == "peers" else {k: v for k, v in held.items() if k != key}
        kernel.write(**{field: left})


@_take.register
def _(change: changes.ForgetPods, kernel: FakeKernel) -> None:
    kernel.forgotten.append(change)


@_take.register
def _(change: changes.ForgetSlots, kernel: FakeKernel) -> None:
    kernel.forgotten_slots += change.slots
