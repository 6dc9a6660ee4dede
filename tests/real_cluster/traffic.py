"""Pods that visit nginx without pause while something is done to Ebbgate, and what nginx saw of them, by
kubectl and its log alone: the bus is inside the cluster.

Visits are numbered by each pod: a number that is missing is a visit that was lost.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from ebbgate_lab import sample, webserver
from ebbgate_lab.cluster import scene as scenes

from .visitors import EGRESS, VISITS, pod_spec

WITHIN_S = 60.0
Key = tuple[str, str]
"""Node and address of a pod."""


class Traffic:
    """`name`: of the policy and of the Deployment, the label `app`, and the first part of all paths."""

    def __init__(self, name: str, scene: scenes.Scene) -> None:
        self.name = name
        self._scene = scene
        self._kubectl = scene.kubectl
        self._forgiven: dict[Key, int] = {}

    def begin(self, replicas: int) -> None:
        """Pods, a policy for them, and all on their way once kubectl says that it is programmed."""
        self.create(self._deployment(replicas))
        self._kubectl.call("rollout", "status", f"deployment/{self.name}", "--timeout=60s")
        self.create(self.policy())
        self.until_programmed()
        for pod in self._kubectl.get("pods", "-l", f"app={self.name}")["items"]:
            self.send(pod["metadata"]["name"])
        self.until_more()

    def until_programmed(self) -> None:
        self._kubectl.call(
            "wait", "--for=condition=Programmed", f"cegp/{self.name}", f"--timeout={WITHIN_S:.0f}s"
        )

    def send(self, pod: str) -> None:
        self._kubectl.call("exec", pod, "--", "sh", "-c", "echo > /tmp/go")

    def create(self, manifest: dict[str, Any]) -> None:
        self._kubectl.call("create", "-f", "-", text=json.dumps(manifest))

    def policy(self) -> dict[str, Any]:
        selectors = [{"podSelector": {"matchLabels": {"app": self.name}}}]
        return sample.policy(sample.spec(selectors=selectors)) | {"metadata": {"name": self.name}}

    def follow_a_change(self, cidr: str) -> None:
        """Another destination is added; return once that version of the policy is programmed."""
        wanted = self.policy()
        wanted["spec"]["destinationCIDRs"].append(cidr)
        generation = self._kubectl.apply(wanted)["metadata"]["generation"]
        until(lambda: self._in_force() == generation, lambda: f"generation {generation} in force")
        self.until_programmed()

    def _in_force(self) -> int:
        return int(self._kubectl.get("cegp", self.name).get("status", {}).get("generationInForce", 0))

    def visits(self) -> list[webserver.Visit]:
        return [visit for visit in self._scene.web.visits() if visit.path.startswith(f"/{self.name}/")]

    def until_more(self) -> None:
        """Return once each pod was seen some times more, with the egress IP."""
        before = {key: len(numbers) for key, numbers in self._numbers(EGRESS).items()}
        running = {
            (pod["spec"]["nodeName"], pod["status"]["podIP"])
            for pod in self._kubectl.get("pods", "-l", f"app={self.name}")["items"]
        }

        def seen() -> bool:
            now = self._numbers(EGRESS)
            return all(len(now[key]) >= before.get(key, 0) + VISITS for key in running)

        until(seen, lambda: f"visits of {running}: {self.visits()[-3:]}")

    def until_seen_from(self, pod: str, source: str) -> None:
        """Return once a pod, known by its address, was seen as `source` some times more."""
        before = self._times(pod, source)
        until(
            lambda: self._times(pod, source) >= before + VISITS,
            lambda: f"visits of {pod} as {source}: {self.visits()[-3:]}",
        )

    def _times(self, pod: str, source: str) -> int:
        return sum(len(numbers) for (_, address), numbers in self._numbers(source).items() if address == pod)

    def assert_none_lost_or_wrong(self) -> None:
        others = [visit.line for visit in self.visits() if visit.source != EGRESS]
        assert not others, "\n".join(others[:20])
        assert self._scene.topology.leaks() == 0
        for key, numbers in self._numbers(EGRESS).items():
            missing = sorted(set(range(self._forgiven.get(key, 0) + 1, max(numbers) + 1)) - numbers)
            assert not missing, f"{key}: visits {missing} of {max(numbers)} were lost"

    def forgive(self) -> None:
        """What was lost until now isn't asked about any more; what was wrong is."""
        self._forgiven = {key: max(numbers) for key, numbers in self._numbers(EGRESS).items()}

    def _numbers(self, source: str) -> defaultdict[Key, set[int]]:
        found: defaultdict[Key, set[int]] = defaultdict(set)
        for visit in self.visits():
            if visit.source == source:
                _, _, node, address, number = visit.path.split("/")
                found[node, address].add(int(number))
        return found

    def _deployment(self, replicas: int) -> dict[str, Any]:
        """One pod on each node, none of them ever moved: who is evicted is another's test."""
        labels = {"app": self.name}
        spread = {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": labels},
        }
        spec = pod_spec(self.name) | {"topologySpreadConstraints": [spread]}
        template = {"metadata": {"labels": labels}, "spec": spec}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
        }


def until(holds: Callable[[], bool], what: Callable[[], str], within_s: float = WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"waited {within_s:.0f} s in vain: {what()}"
        time.sleep(0.1)
