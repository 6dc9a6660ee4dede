"""Each call to the kernel fails once, at each place: what then is there is safe, and the next pass mends it.

The calls are those of the programmer's fingers: bpf(2), the nft program, netlink for sets, connections,
links, routes and rules, and /proc/sys. Everything below them is the real kernel.
"""

import errno
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from ebbgate_bus.contracts import codec, rows, subjects
from ebbgate_bus.contracts.message import Message
from ebbgate_lab import topology
from ebbgate_programmer import installer
from ebbgate_programmer.core import changes, decisions, scopes, touching
from ebbgate_programmer.core.kernelstate import KernelState
from ebbgate_programmer.io import bpf, kernel, netlink, network, nft, nftsets, sysctls
from tests.kernel import rig as rigs
from tests.properties import fake_kernel

PORT = 19021
PODS = ("10.244.1.10", "10.244.1.11", topology.twin("10.244.1.10"))
TARGETS = ("8.8.8.8", "192.0.2.7", "10.244.9.9", "2600::1", "2001:db8::7")
PACKETS = [(pod, target) for pod in PODS for target in TARGETS if (":" in pod) == (":" in target)]
STEER, EXCLUDE = rows.Action.STEER, rows.Action.EXCLUDE


def _plan(routes: tuple[rows.Route, ...], slot: int, pods: dict[str, int]) -> installer.Pair:
    """`pods`: address → bucket."""
    shared = rigs.shared_rows(rigs.path_group(slot=slot)) | {
        subjects.routes("s1", 0): rows.Routes(policies=("egress-sample",), routes=routes)
    }
    own: dict[str, Message] = {
        subjects.endpoint("node1", ip): rows.Endpoint(ip=ip, set="s1", bucket=bucket, pod="default/a")
        for ip, bucket in pods.items()
    }
    own[subjects.egress("node1", slot + 100)] = rows.Egress(
        egress_ip=f"10.168.60.{slot}", interface="eth0", policies=("other",)
    )
    return _agreed(shared), _agreed(own)


def _agreed(held: dict[str, Message]) -> scopes.Agreed:
    commit = rows.Commit(epoch=1, revision=1, count=0, digest="")
    return scopes.Agreed({subject: codec.encode(row) for subject, row in held.items()}, commit)


def _route(cidr: str, action: rows.Action) -> rows.Route:
    return rows.Route(cidr, action, "uid-1", "egress-sample")


ONE = _plan((_route("0.0.0.0/0", STEER), _route("::/0", STEER)), 77, {PODS[0]: 1, PODS[2]: 1})
OTHER = _plan(
    (
        _route("0.0.0.0/0", STEER),
        _route("192.0.2.0/24", EXCLUDE),
        _route("2001:db8::/32", STEER),
    ),
    88,
    {PODS[0]: 2, PODS[1]: 1, PODS[2]: 1},
)


class Faults:
    """Counts the calls to a function, and lets one of them fail."""

    def __init__(self, original: Callable[..., Any], failure: Callable[[], object]) -> None:
        self.calls = 0
        self.failing = 0
        self._original, self._failure = original, failure

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.calls += 1
        return self._failure() if self.calls == self.failing else self._original(*arguments, **named)


def _raising(make: Callable[[], Exception]) -> Callable[[], object]:
    def fail() -> object:
        raise make()

    return fail


CALLS: dict[str, tuple[object, str, Callable[[], object]]] = {
    "bpf: no memory": (bpf, "call", _raising(lambda: bpf.Refused(errno.ENOMEM, "no memory"))),
    "bpf: map full": (bpf, "put", _raising(lambda: bpf.Refused(errno.E2BIG, "Argument list too long"))),
    "bpf: a batch stops": (bpf, "write_batch", lambda: 0),
    "bpf: busy": (bpf, "remove", _raising(lambda: bpf.Refused(errno.EBUSY, "Device or resource busy"))),
    "nft": (nft, "apply", _raising(lambda: nft.Refused("nft: No buffer space available"))),
    "nft sets": (nftsets, "update", _raising(lambda: nftsets.Refused("nft sets: ENOBUFS"))),
    "netlink dump": (netlink, "dump", _raising(lambda: netlink.Refused(errno.ENOBUFS, "no buffer space"))),
    "netlink request": (
        network,
        "_asking",
        _raising(lambda: network.Refused("route: (12, 'Cannot allocate memory')")),
    ),
    "sysctl": (sysctls, "write", _raising(lambda: PermissionError(errno.EACCES, "read-only"))),
}


_NOT_MET = {
    "nothing": ("bpf: busy",),
    "another plan": ("nft", "netlink request", "sysctl"),
}
"""Nothing has to be removed of nothing, and no device, rule, route or chain changes with a plan."""
MET = [(start, what) for start, idle in _NOT_MET.items() for what in CALLS if what not in idle]


@pytest.fixture
def node(_machine: None) -> Iterator[kernel.Kernel]:
    lab = topology.Topology(rigs.prefix("f"), hosts=topology.HOSTS[1:2], pods=())
    lab.make()
    with lab.entered("node1"):
        made = kernel.Kernel(rigs.BPFFS / f"{rigs.prefix('f')}test", rigs.OBJECT)
        yield made
        made.clean()
        made.close()
    lab.remove()
    assert not pathlib.Path("/run/netns/ebf-node1").exists()


def _installer(node: kernel.Kernel) -> installer.Installer:
    return installer.Installer(node, node="node1", port=PORT, drain=lambda: None)


def _held(outcome: installer.Outcome) -> KernelState:
    assert outcome.held is not None, outcome.problems
    return outcome.held


@pytest.mark.parametrize("number", [1, touching.MANY + 1])
def test_what_is_read_back_of_pods_is_what_a_look_at_everything_sees(
    node: kernel.Kernel, number: int
) -> None:
    passes = _installer(node)
    routes = (_route("0.0.0.0/0", STEER), _route("::/0", STEER))
    many = [f"10.244.{2 + n // 250}.{n % 250}" for n in range(number)]
    for pods in ({}, {PODS[0]: 1}, dict.fromkeys([*PODS, *many], 2), {PODS[0]: 2, PODS[2]: 3}, {}):
        outcome = passes.step(_plan(routes, 77, pods), fresh=False)
        assert outcome.problems == ()
        held = _held(outcome)
        assert held.covered == pods.keys()
        assert {pod: at.bucket for pod, at in held.endpoints.items()} == pods
        assert held == node.read(held.sysctls)


def test_a_pod_that_somebody_takes_out_at_once_is_missed_by_what_is_read_back(node: kernel.Kernel) -> None:
    passes = _installer(node)
    routes = (_route("0.0.0.0/0", STEER),)
    passes.step(_plan(routes, 77, {}), fresh=True)
    taking = _Taking(node)
    outcome = installer.Installer(taking, node="node1", port=PORT, drain=lambda: None).step(
        _plan(routes, 77, {PODS[0]: 1}), fresh=True
    )
    assert PODS[0] not in _held(outcome).endpoints
    assert any("not as written" in problem.reason for problem in outcome.problems)


class _Taking(kernel.Kernel):
    """Somebody else takes out each endpoint as soon as it was written."""

    def __init__(self, node: kernel.Kernel) -> None:
        vars(self).update(vars(node))

    def apply(self, change: changes.Change) -> changes.Refusals:
        refused = super().apply(change)
        if isinstance(change, changes.Put) and change.map is changes.Map.ENDPOINT:
            super().apply(changes.Drop(change.map, tuple(key for key, _ in change.entries)))
        return refused


def _settled(node: kernel.Kernel, plan: installer.Pair) -> KernelState:
    outcome = _installer(node).step(plan, fresh=True)
    assert outcome.problems == ()
    return _held(outcome)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("start", "what"), MET)
def test_a_call_that_fails_once_at_any_place_leaks_nothing_and_is_mended(
    node: kernel.Kernel, monkeypatch: pytest.MonkeyPatch, what: str, start: str
) -> None:
    place, name, failure = CALLS[what]
    number, calls = -1, 0
    while number < calls:
        number += 1  # at 0 none fails: that tells how many there are
        before = _begin(node, start)
        with monkeypatch.context() as patched:
            faults = Faults(getattr(place, name), failure)
            faults.failing = number
            patched.setattr(place, name, faults)
            if name in ("put", "remove"):
                # Entry by entry, as where a kernel knows no batches: one would hide which entry it was.
                patched.setattr(bpf, "write_batch", lambda *_: 0)
            passes = _installer(node)
            first = passes.step(OTHER, fresh=True)
            calls = max(calls, faults.calls)
        between = node.read()
        outcome = passes.step(OTHER, fresh=True)
        assert outcome.problems == (), (what, number)
        after = _held(outcome)
        for packet in PACKETS:
            allowed = {fake_kernel.fate(state, *packet) for state in _allowed(before, after)}
            allowed.add(decisions.DROPPED)
            assert fake_kernel.fate(between, *packet) in allowed, (what, number, packet)
        if first.held is not None and not what.startswith("nft"):
            assert between.covered >= after.covered, "a new pod leaves unsteered, and its node says Applied"
    assert number >= 1, "nothing failed"


def _allowed(before: KernelState, after: KernelState) -> list[KernelState]:
    """Old and new; and, as a group's path is one value for all led to it, either by the other's paths."""
    egress = {**after.egress, **before.egress}
    sources = before.sources | after.sources
    mixed = [
        msgspec.structs.replace(one, paths={**one.paths, **other.paths}, egress=egress, sources=sources)
        for one, other in ((before, after), (after, before))
    ]
    return [before, after, *mixed]


def _begin(node: kernel.Kernel, start: str) -> KernelState:
    if start == "nothing":
        node.clean()
        return node.read()
    return _settled(node, ONE)
