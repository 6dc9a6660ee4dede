"""The resolver's core alone: from nothing to all rows, and the CPU of one event; and the same asked plainly.

Times are CPU times of this thread around the engine's calls, garbage collection as the service sets it.
"""

import pathlib
import time
from collections.abc import Callable, Iterable, Sequence

import msgspec

from bench import figures, worlds
from ebbgate_bus.contracts import codec, facts, reports, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_resolver.core import engine, simulation
from ebbgate_resolver.core.plan import held
from ebbgate_resolver.core.rules import endpoints, policies, selectors
from ebbgate_resolver.io import memory

READ_AT_ONCE = 10_000
"""As the follower hands over."""
ROUNDS_MAX = 10


class Stage:
    """A resolver's engine, and the CPU time that it took."""

    def __init__(self, world: worlds.World) -> None:
        self.world = world
        self.resolver = engine.Resolver()
        self.resolver.epoch = 1
        self.now_s = 0.0
        self.written = 0

    def start(self) -> float:
        """From nothing to all rows stored; CPU seconds."""
        memory.prepare()
        spent = self._timed(lambda: self.resolver.replace_plan([], 0.0))
        part: list[Stored] = []
        for message in self.world.facts():
            part.append(message)
            if len(part) == READ_AT_ONCE:
                spent += self._timed(lambda: self.resolver.fold(part))
                part.clear()
        spent += self._timed(lambda: self.resolver.fold(part))
        spent += self._timed(self.step) + self._timed(self.step)
        memory.keep()
        return spent

    def settle(self) -> None:
        """Every node's programmer applies what it is told, until nothing changes."""
        for _ in range(ROUNDS_MAX):
            self.resolver.fold(self._reports())
            if not self.step():
                return
        raise AssertionError("the rows never settle")

    def step(self) -> bool:
        self.now_s += 1.0
        made = self.resolver.step(self.now_s)
        self.resolver.stored(made)
        self.written = sum(map(len, made.batches))
        return bool(made.batches or made.verdicts)

    def events(self, messages: Iterable[Stored]) -> list[float]:
        """CPU milliseconds of each: fold, step, what its rows cost when stored, and the step after that."""
        spent = []
        for message in messages:
            took_s = self._timed(lambda: self.resolver.fold([message]))  # noqa: B023
            took_s += self._timed(self.step) + self._timed(self.step)
            spent.append(took_s * 1000)
        return spent

    def _timed(self, work: Callable[[], object]) -> float:
        before = time.process_time_ns()
        work()
        return (time.process_time_ns() - before) / 1e9

    def _reports(self) -> list[Stored]:
        commits, slots = self.resolver.commits, self._slots_by_node()
        shared = commits[subjects.ALL_SCOPE].revision
        return [
            worlds.stored(
                reports.Applied(
                    node=name,
                    all_revision=shared,
                    node_revision=commits[subjects.node_scope(name)].revision,
                    slots=slots.get(name, {}),
                )
            )
            for name in (f"node-{number}" for number in range(self.world.size.nodes))
        ]

    def _slots_by_node(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for subject, payload in self.resolver.live_rows.items():
            name = subjects.parse(subject)
            if name is not None and name.kind == "plan.egress":
                ip = msgspec.json.decode(payload)["egress_ip"]
                found.setdefault(name.node, {})[name.ids[0]] = ip
        return found


def measure_events(stage: Stage, count: int) -> dict[str, list[float]]:
    """Each change, and its taking back, measured one by one; afterwards the world is as it was."""
    world = stage.world
    step = max(1, world.size.pods // count)
    pods = [world.pod(number) for number in range(0, world.size.pods, step)][:count]
    few = max(3, count // 20)
    several = [world.policy(number) for number in range(min(few, world.size.policies))]
    spent = {}
    gone = stage.events(map(worlds.gone, pods))
    spent["one pod event"] = gone + stage.events(map(worlds.stored, pods))
    stage.events(map(worlds.gone, several))
    spent["one policy added"] = stage.events(map(worlds.stored, several))
    names = range(min(few, world.size.namespaces))
    relabelled = [world.namespace(number, team=(number + 7) % worlds.TEAMS) for number in names]
    spent["one namespace relabelled"] = stage.events(map(worlds.stored, relabelled))
    nodes = [world.node(number) for number in range(min(few, world.size.gateways))]
    lost = []
    for node in nodes:
        lost += stage.events([worlds.gone(node)])
        stage.events([worlds.stored(node)])
    spent["one gateway lost"] = lost
    return spent


def simulate_s(stage: Stage) -> float:
    """CPU seconds of simulating that a policy is deleted, from the facts and what PLAN holds."""
    plan = held.Held()
    for subject, payload in stage.resolver.live_rows.items():
        plan.put(subject, payload)
    stored = (message for message in stage.world.facts() if ".fact." in message.subject)
    decoded = ((message.subject, codec.decode(message.subject, message.payload)) for message in stored)
    before = {subject: fact for subject, fact in decoded if not isinstance(fact, facts.Gone)}
    lost = worlds.subject(stage.world.policy(0))
    after = {subject: fact for subject, fact in before.items() if subject != lost}
    start = time.process_time_ns()
    simulation.simulate(before, after, plan)
    return (time.process_time_ns() - start) / 1e9


def rss_mb(pid: int | str = "self") -> float:
    """Resident memory of a process now."""
    pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def loop_ms() -> float:
    """What this machine needs for a million turns: it is shared, and not equally fast in every run."""
    before = time.process_time_ns()
    for _ in range(1_000_000):
        pass
    return (time.process_time_ns() - before) / 1e6


class Plain:
    """What each Cilium agent does at an event: ask every policy about every endpoint and build all rows
    anew. Labels are prepared and selectors parsed, as there; only the first `sample` pods are asked.
    """

    def __init__(self, world: worlds.World, sample: int) -> None:
        self.pods = [world.pod(number) for number in range(min(sample, world.size.pods))]
        self._namespaces = {
            f"ns-{number}": world.namespace(number).labels for number in range(world.size.namespaces)
        }
        self._labels = [pod.labels | {endpoints.NAMESPACE_OF_POD: pod.namespace} for pod in self.pods]
        parsed = (policies.parse(world.policy(n), f"policy-{n}") for n in range(world.size.policies))
        self._policies = [policy for policy in parsed if isinstance(policy, policies.Policy)]

    def evaluate_ms(self) -> float:
        """CPU milliseconds of one evaluation."""
        before = time.process_time_ns()
        rows = [
            (ip, cidr, policy.name)
            for policy in self._policies
            for pod, labels in zip(self.pods, self._labels, strict=True)
            if self._chooses(policy, pod, labels)
            for ip in pod.ips
            for cidr in policy.destinations
        ]
        assert rows
        return (time.process_time_ns() - before) / 1e6

    def _chooses(self, policy: policies.Policy, pod: facts.Pod, labels: dict[str, str]) -> bool:
        of_namespace = self._namespaces[pod.namespace]
        return any(
            selectors.matches(rule.pods, labels) and selectors.matches(rule.namespaces, of_namespace)
            for rule in policy.rules
        )


def quantiles(spent_ms: Sequence[float]) -> tuple[float, float]:
    return figures.quantile(spent_ms, 0.5), figures.quantile(spent_ms, 0.99)
