"""Two witnesses of what happens to a packet: `explain`, and a look-up in the rows.

`explain` asks every policy and compares every CIDR; the look-up does what a node's kernel does: endpoint →
set → longest prefix → group → path → egress IP. They share no step of their way.
"""

import ipaddress
from collections.abc import Iterable

import msgspec

from ebbgate_bus.contracts import codec, facts, rows, subjects
from ebbgate_bus.contracts.message import Message
from ebbgate_resolver.core import addresses, inventory
from ebbgate_resolver.core.people import explain, explain_pods
from ebbgate_resolver.core.people.explanation import Outcome
from ebbgate_resolver.core.plan import held


class Answer(msgspec.Struct, frozen=True):
    """What a kernel does with a packet."""

    outcome: Outcome
    policy: str = ""
    gateway: str = ""
    slot: int = 0
    egress_ip: str = ""


class Kernel:
    """The rows as a node's programs look things up in them; tells the policies' names from the routes."""

    def __init__(self, payloads: dict[str, bytes]) -> None:
        self.endpoints: dict[tuple[str, str], rows.Endpoint] = {}
        self.routes: dict[str, list[rows.Route]] = {}
        self.groups: dict[str, rows.Group] = {}
        self.egress: dict[tuple[str, int], str] = {}
        self.cluster: list[str] = []
        for subject, payload in payloads.items():
            self._put(subject, codec.decode(subject, payload))

    def _put(self, subject: str, row: Message | facts.Gone) -> None:
        name = subjects.parse(subject)
        assert name is not None
        match row:
            case rows.Endpoint():
                self.endpoints[name.node, row.ip] = row
            case rows.Routes():
                self.routes.setdefault(name.ids[0], []).extend(row.routes)
            case rows.Group():
                self.groups[name.ids[0]] = row
            case rows.Egress():
                self.egress[name.node, int(name.ids[0])] = row.egress_ip
            case rows.Cluster():
                self.cluster.append(row.cidr)

    def answer(self, node: str, source: str, destination: addresses.Address) -> Answer:
        if any(destination in ipaddress.ip_network(cidr) for cidr in explain.NEVER):
            return Answer(Outcome.NEVER)
        endpoint = self.endpoints.get((node, source))
        if any(destination in ipaddress.ip_network(cidr) for cidr in self.cluster):
            return Answer(Outcome.CLUSTER)
        routes = self.routes[endpoint.set] if endpoint else []
        covering = [each for each in routes if destination in ipaddress.ip_network(each.cidr)]
        if endpoint is None or not covering:
            return Answer(Outcome.NOT_MATCHED)
        route = max(covering, key=lambda each: ipaddress.ip_network(each.cidr).prefixlen)
        if route.action is rows.Action.EXCLUDE:
            return Answer(Outcome.EXCLUDED, route.policy)
        return self._steered(route, endpoint.bucket, destination)

    def _steered(self, route: rows.Route, bucket: int, destination: addresses.Address) -> Answer:
        group = self.groups[route.group]
        paths = group.ipv4 if destination.version == 4 else group.ipv6
        assert paths is not None
        if paths.buckets[bucket] == rows.NO_PATH:
            return Answer(Outcome.DROPPED, route.policy)
        path = paths.paths[paths.buckets[bucket]]
        if path.slot == rows.NO_SLOT:
            return Answer(Outcome.DROPPED, route.policy, path.node)
        egress_ip = self.egress[path.node, path.slot]
        return Answer(Outcome.STEERED, route.policy, path.node, path.slot, egress_ip)


def explained(seen: explain.View, packet: explain.Packet) -> Answer:
    found = explain.explain(seen, packet)
    steered = found.outcome is Outcome.STEERED
    return Answer(
        found.outcome,
        found.policy,
        found.gateway,
        found.slot if steered else 0,
        found.egress_ip if steered else "",
    )


def check(
    known: inventory.Inventory, plan: held.Held, destinations: Iterable[str], setting: tuple[str, ...] = ()
) -> set[Outcome]:
    """The outcomes that were seen and agreed upon."""
    rows_only = {subject: payload for subject, payload in plan.rows.items() if ".policy." not in subject}
    seen, kernel = explain.view(known, plan, setting), Kernel(rows_only)
    outcomes = set()
    for packet in packets(known, destinations):
        if explain_pods.obstacle(packet.pod, known):
            continue  # no node sees packets of such a pod, or they are another's by now
        told = explained(seen, packet)
        done = kernel.answer(packet.pod.node, packet.source, packet.destination)
        assert told == done, packet
        outcomes.add(told.outcome)
    return outcomes


def packets(known: inventory.Inventory, destinations: Iterable[str]) -> Iterable[explain.Packet]:
    parsed = [ipaddress.ip_address(text) for text in destinations]
    for pod in known.pods.values():
        for destination in parsed:
            sources = [ip for ip in pod.ips if ipaddress.ip_address(ip).version == destination.version]
            yield from (explain.Packet(pod, destination, source) for source in sources)
