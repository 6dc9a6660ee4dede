"""Pods that visit nginx again and again, each visit under a path that says which pod it was, and where.

A visitor sets out when it is told to, once its rows are in its node's kernel: a new pod's first packets are
nobody's promise yet. From then on it visits to its very end, also while it is being terminated (its shell
ignores SIGTERM), so that a look at nginx's log tells of every moment of its life.
"""

import asyncio
import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

from ebbgate_bus.contracts import rows, subjects
from ebbgate_lab import observer, sample, webserver
from ebbgate_lab.cluster import image
from ebbgate_lab.cluster import scene as scenes

EGRESS = "10.168.60.100"
GATEWAY = "node2"
WITHIN_S = 60.0
VISITS = 5
"""That many more, or the traffic isn't taken for flowing."""
SCRIPT = f"""
until [ -e /tmp/go ]; do sleep 0.05; done
n=0
while :; do
  n=$((n + 1))
  curl -s -m 1 -o /dev/null http://{webserver.ADDRESS}/$APP/$NODE/$ADDRESS/$n
  sleep 0.1
done
"""


@dataclasses.dataclass(frozen=True)
class Visitor:
    """A pod at a place: moved, it is another visitor of the same name."""

    name: str
    node: str
    address: str
    uid: str


class Visitors:
    """`name`: of the policy and of what makes the pods, their label `app`, the first part of their paths."""

    def __init__(self, name: str, scene: scenes.Scene, watching: observer.Observer) -> None:
        self.name = name
        self.scene = scene
        self.kubectl = scene.kubectl
        self._watching = watching
        self._made: list[dict[str, Any]] = []

    async def begin(self, manifest: dict[str, Any], count: int) -> list[Visitor]:
        """The pods of `manifest` under a policy, all of them on their way."""
        self._make(manifest)
        pods = await self.until_pods(count)
        policy = self._policy()
        self._made.append(policy)
        generation = self.scene.source.apply(policy)
        await self._watching.until(
            lambda seen: sample.programmed(seen.verdict(self.name), generation),
            what=f"{self.name} programmed",
            within_s=WITHIN_S,
        )
        await self.send(*pods)
        return pods

    def workload(self, kind: str, replicas: int) -> dict[str, Any]:
        """A Deployment or a StatefulSet of visitors."""
        labels = {"app": self.name}
        spec = {"replicas": replicas, "selector": {"matchLabels": labels}}
        if kind == "StatefulSet":
            spec["serviceName"] = self.name
        template = {"metadata": {"labels": labels}, "spec": pod_spec(self.name)}
        return {
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": {"name": self.name},
            "spec": spec | {"template": template},
        }

    def pod(self, node: str) -> dict[str, Any]:
        """One visitor that stays on its node."""
        place = {"nodeSelector": {"node.kubernetes.io/name": node}}
        metadata = {"name": self.name, "labels": {"app": self.name}}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": pod_spec(self.name) | place,
        }

    def pods(self) -> list[Visitor]:
        """Those that run, and are to go on."""
        found = self.kubectl.get("pods", "-l", f"app={self.name}")["items"]
        return [_visitor(each) for each in found if _runs(each)]

    async def until_pods(
        self, count: int, holds: Callable[[Visitor], bool] = lambda pod: True
    ) -> list[Visitor]:
        """Return as soon as exactly `count` pods run, and all of them are as wanted."""
        await _until(
            lambda: len(pods := self.pods()) == count and all(map(holds, pods)),
            lambda: f"{count} pods as wanted, not {self.pods()}",
        )
        return self.pods()

    async def send(self, *pods: Visitor) -> None:
        """Let them begin, once their rows are in the kernel of their nodes; return when they were seen."""
        for pod in pods:
            await self._watching.until(
                lambda seen, pod=pod: (
                    seen.get(subjects.endpoint(pod.node, pod.address), rows.Endpoint) is not None
                    and seen.obeyed(pod.node, GATEWAY)
                ),
                what=f"{pod} programmed",
                within_s=WITHIN_S,
            )
            self.kubectl.call("exec", pod.name, "--", "sh", "-c", "echo > /tmp/go")
        await self.until_seen(*pods)

    async def until_seen(self, *pods: Visitor) -> None:
        """Return once each has made VISITS more."""
        before = {pod: len(self.visits(pod)) for pod in pods}
        await _until(
            lambda: all(len(self.visits(pod)) >= before[pod] + VISITS for pod in pods),
            lambda: f"visits of {pods}, beyond {before}",
        )

    async def until_no_row(self, pod: Visitor) -> None:
        """Return once nobody is told of a pod at its address any more."""
        await self._watching.until(
            lambda seen: (
                seen.get(subjects.endpoint(pod.node, pod.address), rows.Endpoint) is None
                and seen.obeyed(pod.node)
            ),
            what=f"{pod} gone from the plan",
            within_s=WITHIN_S,
        )

    def visits(self, pod: Visitor | None = None) -> list[webserver.Visit]:
        """As nginx logged them: of one pod, or of all."""
        path = f"/{self.name}/{pod.node}/{pod.address}/" if pod else f"/{self.name}/"
        return [visit for visit in self.scene.web.visits() if visit.path.startswith(path)]

    def assert_seen_as_egress_only(self) -> None:
        others = [visit.line for visit in self.visits() if visit.source != EGRESS]
        assert not others, "\n".join(others[:20])
        assert self.scene.topology.leaks() == 0

    def remove(self) -> None:
        """Pods first: none of them may go on when its policy is gone."""
        for manifest in self._made:
            self.kubectl.delete(manifest)
        self.kubectl.call("wait", "--for=delete", "pod", "-l", f"app={self.name}", "--timeout=30s")

    def _make(self, manifest: dict[str, Any]) -> None:
        self._made.append(manifest)
        self.kubectl.call("create", "-f", "-", text=json.dumps(manifest))

    def _policy(self) -> dict[str, Any]:
        selectors = [{"podSelector": {"matchLabels": {"app": self.name}}}]
        return sample.policy(sample.spec(selectors=selectors)) | {"metadata": {"name": self.name}}


def pod_spec(name: str) -> dict[str, Any]:
    def field(path: str) -> dict[str, Any]:
        return {"valueFrom": {"fieldRef": {"fieldPath": path}}}

    env = [
        {"name": "APP", "value": name},
        {"name": "NODE", **field("spec.nodeName")},
        {"name": "ADDRESS", **field("status.podIP")},
    ]
    container = {
        "name": "visitor",
        "image": image.REFERENCE,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", SCRIPT],
        "env": env,
    }
    return {"containers": [container], "terminationGracePeriodSeconds": 1}


def _runs(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def _visitor(pod: dict[str, Any]) -> Visitor:
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    return Visitor(name, pod["spec"]["nodeName"], pod["status"]["podIP"], uid)


async def _until(holds: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline, f"waited {WITHIN_S:.0f} s in vain: {what()}"
        await asyncio.sleep(0.1)
