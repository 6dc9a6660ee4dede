"""What a pass works, counted and not timed: with what changed; all of it, with endpoints, routes and groups,
never with their product.
"""

import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from ebbgate_bus.contracts import codec, rows, subjects
from ebbgate_bus.contracts.message import Message
from ebbgate_programmer.core import (
    connections,
    desired,
    firewall,
    incremental,
    lowering,
    ordering,
    scopes,
    sharded,
)
from ebbgate_programmer.core.kernelstate import KernelState

HERE = lowering.Environment(node="node1")
CHAINS = firewall.chains(19021)
FEW, MANY = 40, 80


def _agreed(held: dict[str, Message]) -> scopes.Agreed:
    commit = rows.Commit(epoch=1, revision=1, count=0, digest="")
    return scopes.Agreed({subject: codec.encode(row) for subject, row in held.items()}, commit)


def _plan(endpoints: int, routes: int, slot: int = 16) -> tuple[scopes.Agreed, scopes.Agreed]:
    """All endpoints are of one set, in many buckets, and each of its routes is led to a group of its own."""
    paths = rows.Paths(paths=(rows.Path("node2", "10.168.60.12", slot),), buckets=(0,) * rows.BUCKETS)
    of_set = tuple(
        rows.Route(f"10.{n >> 8}.{n & 255}.0/24", rows.Action.STEER, f"uid-{n % 5}", "p")
        for n in range(routes)
    )
    shared: dict[str, Message] = {subjects.routes("s1", 0): rows.Routes(policies=("p",), routes=of_set)}
    shared |= {subjects.group(f"uid-{n}"): rows.Group(policy="p", ipv4=paths) for n in range(5)}
    own: dict[str, Message] = {
        subjects.endpoint("node1", ip): rows.Endpoint(ip=ip, set="s1", bucket=n % 64, pod="default/a")
        for n, ip in enumerate(f"10.244.{n >> 8}.{n & 255}" for n in range(endpoints))
    }
    return _agreed(shared), _agreed(own)


def _state(endpoints: int, routes: int, slot: int = 16) -> KernelState:
    return lowering.lower(desired.read("node1", *_plan(endpoints, routes, slot)), HERE).state


def _lower(endpoints: int, routes: int) -> Callable[[], object]:
    plan = _plan(endpoints, routes)
    return lambda: lowering.lower(desired.read("node1", *plan), HERE)


def _diff(endpoints: int, routes: int) -> Callable[[], object]:
    before, after = _state(endpoints, routes), _state(endpoints + 1, routes + 1, 17)
    return lambda: ordering.diff(after, before, CHAINS)


def _affected(endpoints: int, routes: int) -> Callable[[], object]:
    before, after = _state(endpoints, routes), _state(endpoints, routes, 17)
    return lambda: connections.affected(after, before)


def _steps(work: Callable[[], object]) -> int:
    """Instructions of the interpreter."""
    count = 0

    def trace(frame: types.FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    work()  # fills what is remembered of texts, for all sizes alike
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def _one_pod(endpoints: int) -> Callable[[], object]:
    """It comes and goes: what a node does at each pod event, but for the kernel."""
    shared, own = _plan(endpoints, FEW)
    held = sharded.Sharded.of(own.rows)
    all_but_one = held.changed({}, [subjects.endpoint("node1", "10.244.0.7")])
    plans = [scopes.Agreed(each, own.commit) for each in (held, all_but_one)]
    followed = incremental.Lowering("node1")

    def work() -> object:
        one, other = (followed.lower((shared, plan), HERE).state for plan in plans)
        assert one != other
        return [ordering.diff(other, one, CHAINS), ordering.diff(one, other, CHAINS)]

    return work


def test_one_pod_is_the_same_work_whatever_the_number_of_pods() -> None:
    assert _steps(_one_pod(3000)) < 1.1 * _steps(_one_pod(1000))


@pytest.mark.parametrize("make", [_lower, _diff, _affected])
def test_twice_the_endpoints_and_routes_are_twice_the_work(
    make: Callable[[int, int], Callable[[], object]],
) -> None:
    assert _steps(make(MANY, MANY)) < 2.2 * _steps(make(FEW, FEW))
