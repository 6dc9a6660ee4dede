"""Generated clusters for the resolver's benchmarks: the same world from the same seed and size.

Pods are of workloads (a namespace, an app, a tier and a template's hash), as in clusters; a fifth of the
policies chooses a whole namespace, a third an app of a team's namespaces, the rest one app of one namespace.
"""

import json
import random
from collections.abc import Iterator

import msgspec

from ebbgate_bus.contracts import codec, facts, reports, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.contracts.message import Message

APPS = 25
TEAMS = 30
GROUPS = 50


class Size(msgspec.Struct, frozen=True):
    """`cidrs`: of each policy."""

    pods: int = 150_000
    nodes: int = 5_000
    policies: int = 1_000
    cidrs: int = 10
    namespaces: int = 300
    gateways: int = 100

    def text(self) -> str:
        return (
            f"{self.nodes:,} nodes, {self.pods:,} pods in {self.namespaces} namespaces, {self.policies:,} "
            f"policies of {self.cidrs} CIDRs, {self.gateways} gateways"
        )


SMALL = Size(pods=600, nodes=40, policies=20, cidrs=3, namespaces=10, gateways=6)


class World:
    """`pod(n)` and its like are pure in their number: an event is the same object, a little changed."""

    def __init__(self, size: Size, seed: int) -> None:
        self.size = size
        self.seed = seed

    def _dice(self, *what: object) -> random.Random:
        return random.Random(repr((self.seed, *what)))

    def pod(self, number: int, *, generation: int = 0) -> facts.Pod:
        """`generation`: a pod of the same name that came later, elsewhere."""
        dice = self._dice("pod", number, generation)
        workload = self._dice("workload", number // 8)
        namespace, app = f"ns-{workload.randrange(self.size.namespaces)}", f"app-{workload.randrange(APPS)}"
        place = number + generation * self.size.pods
        return facts.Pod(
            namespace=namespace,
            name=f"{app}-{number // 8:x}-{number:05x}",
            uid=f"{dice.getrandbits(128):032x}",
            node=f"node-{dice.randrange(self.size.nodes)}",
            ips=(f"10.{64 + (place >> 16)}.{place >> 8 & 255}.{place & 255}",),
            labels={
                "app.kubernetes.io/name": app,
                "app.kubernetes.io/part-of": "shop",
                "tier": f"tier-{number // 8 % 4}",
                "pod-template-hash": f"{number // 8:x}",
            },
            phase="Running",
            created="2026-01-01T00:00:00Z",
        )

    def namespace(self, number: int, *, team: int = -1) -> facts.Namespace:
        name = f"ns-{number}"
        own = number % TEAMS if team < 0 else team
        return facts.Namespace(name=name, labels={"kubernetes.io/metadata.name": name, "team": f"team-{own}"})

    def node(self, number: int) -> facts.Node:
        address = self._address(number)
        labels = {"kubernetes.io/hostname": f"node-{number}", "zone": f"zone-{number % 3}"}
        if number < self.size.gateways:
            labels |= {"egress": "yes", "egress-group": f"group-{number % GROUPS}"}
        cidr = f"100.{64 + (number >> 8)}.{number & 255}.0/24"
        return facts.Node(
            name=f"node-{number}",
            labels=labels,
            internal_ips=(address,),
            addresses=(address,),
            pod_cidrs=(cidr,),
        )

    def network(self, number: int) -> facts.NodeNetwork:
        own = [f"{self._address(number)}/16"]
        if number < self.size.gateways:
            own += [f"198.18.{number}.{i}/24" for i in range(1, 11)]
        eth0 = facts.Interface(name="eth0", index=2, addresses=tuple(own), default_route=("ipv4",))
        return facts.NodeNetwork(node=f"node-{number}", interfaces=(eth0,))

    def _address(self, number: int) -> str:
        return f"172.{16 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"

    def policy(self, number: int) -> facts.Policy:
        dice = self._dice("policy", number)
        spec = {
            "selectors": [self._selector(dice)],
            "destinationCIDRs": [
                f"{dice.randrange(20, 60)}.{dice.randrange(256)}.{dice.randrange(256)}.0/24"
                for _ in range(self.size.cidrs)
            ],
            "egressGateways": [self._gateway(dice) for _ in range(dice.choice((1, 1, 2)))],
        }
        raw = msgspec.Raw(json.dumps(spec, sort_keys=True).encode())
        created = f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z"
        return facts.Policy(
            name=f"policy-{number}",
            uid=f"{dice.getrandbits(128):032x}",
            generation=1,
            created=created,
            spec=raw,
        )

    def _selector(self, dice: random.Random) -> dict[str, object]:
        app = {"matchLabels": {"app.kubernetes.io/name": f"app-{dice.randrange(APPS)}"}}
        name = f"ns-{dice.randrange(self.size.namespaces)}"
        namespace = {"matchLabels": {"kubernetes.io/metadata.name": name}}
        team = {"matchLabels": {"team": f"team-{dice.randrange(TEAMS)}"}}
        kind = dice.randrange(15)
        if kind < 3:
            return {"namespaceSelector": namespace}
        return {"podSelector": app, "namespaceSelector": team if kind < 8 else namespace}

    def _gateway(self, dice: random.Random) -> dict[str, object]:
        groups = min(GROUPS, self.size.gateways)
        chosen = {"matchLabels": {"egress-group": f"group-{dice.randrange(groups)}"}}
        return {"nodeSelector": chosen} | dice.choice([{}, {"interface": "eth0"}])

    def facts(self) -> Iterator[Stored]:
        """All of FACT, the watcher's `synced` last."""
        for number in range(self.size.nodes):
            yield stored(self.node(number))
            yield stored(self.network(number))
        yield from (stored(self.namespace(number)) for number in range(self.size.namespaces))
        yield from (stored(self.policy(number)) for number in range(self.size.policies))
        yield from (stored(self.pod(number)) for number in range(self.size.pods))
        yield stored(facts.ServiceCidr(name="kubernetes", cidrs=("10.96.0.0/12",)))
        yield from (stored(facts.Synced(kind=kind)) for kind in facts.KINDS)


def subject(message: Message) -> str:
    match message:
        case facts.Pod():
            return subjects.fact("pod", message.namespace, message.name)
        case facts.NodeNetwork():
            return subjects.fact("nodenetwork", message.node)
        case facts.Synced():
            return subjects.synced(message.kind)
        case reports.Applied():
            return subjects.status(message.node)
        case facts.Node() | facts.Namespace() | facts.Policy() | facts.ServiceCidr():
            return subjects.fact(type(message).__name__.lower(), message.name)
        case _:
            raise TypeError(type(message).__name__)


def stored(message: Message) -> Stored:
    return Stored(subject(message), codec.encode(message), 0)


def gone(message: Message) -> Stored:
    return Stored(subject(message), b"", 0)
