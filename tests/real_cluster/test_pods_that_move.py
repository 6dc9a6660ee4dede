"""What Kubernetes does to pods every day: at no moment is one of them seen with another address than the
egress IP.
"""

import pytest

from .visitors import Visitors

pytestmark = pytest.mark.timeout(180)


async def test_pods_rescheduled(visitors: Visitors) -> None:
    first = await visitors.begin(visitors.workload("Deployment", 3), 3)
    visitors.kubectl.call("rollout", "restart", "deployment", visitors.name)
    old = {pod.uid for pod in first}
    second = await visitors.until_pods(3, lambda pod: pod.uid not in old)
    await visitors.send(*second)
    for pod in first:
        await visitors.until_no_row(pod)
    visitors.assert_seen_as_egress_only()


async def test_node_drained(visitors: Visitors) -> None:
    first = await visitors.begin(visitors.workload("Deployment", 3), 3)
    node = first[0].node
    try:
        options = ("--pod-selector", f"app={visitors.name}", "--timeout=60s")
        visitors.kubectl.call("drain", node, "--ignore-daemonsets", *options)
        second = await visitors.until_pods(3, lambda pod: pod.node != node)
        moved = [pod for pod in second if pod not in first]
        assert moved
        await visitors.send(*moved)
        await visitors.until_seen(*second)
    finally:
        visitors.kubectl.call("uncordon", node)
    visitors.assert_seen_as_egress_only()


async def test_stateful_pod_moves(visitors: Visitors) -> None:
    (before,) = await visitors.begin(visitors.workload("StatefulSet", 1), 1)
    visitors.kubectl.call("cordon", before.node)
    try:
        visitors.kubectl.call("delete", "pod", before.name)
        (after,) = await visitors.until_pods(1, lambda pod: pod.uid != before.uid)
        assert after.name == before.name
        assert after.node != before.node
        assert after.address != before.address
        await visitors.until_no_row(before)
        await visitors.send(after)
    finally:
        visitors.kubectl.call("uncordon", before.node)
    visitors.assert_seen_as_egress_only()


@pytest.mark.parametrize("killed", ["node3", "node2"], ids=["own", "gateway"])
async def test_node_killed(visitors: Visitors, killed: str) -> None:
    """The pod's own node, and the gateway: while that is gone the pod is seen as nobody."""
    scene = visitors.scene
    (before,) = await visitors.begin(visitors.pod("node3"), 1)
    scene.kill_node(killed)
    try:
        seen = len(visitors.visits())
        scene.cluster.until_ready(killed, ready=False)
        assert len(visitors.visits()) == seen
    finally:
        scene.start_node(killed)
    scene.cluster.until_ready(killed)
    (after,) = await visitors.until_pods(1)
    assert after.uid == before.uid
    if killed == after.node:
        (after,) = await visitors.until_pods(1, lambda pod: pod.address != before.address)
        await visitors.send(after)
    else:
        await visitors.until_seen(after)
    assert len(visitors.visits()) > seen
    visitors.assert_seen_as_egress_only()
