"""A state of the hunt's cluster as Kubernetes objects and addresses; and whether Ebbgate knows, and obeys it.

`known` and `planned` are looked at while waiting only: what is right is said by `world`, not by them.
"""

import ipaddress

import msgspec

from ebbgate_bus.contracts import codec, facts, subjects
from ebbgate_bus.contracts.message import Message
from ebbgate_lab import lab, observer, topology
from ebbgate_lab.hunt import world
from ebbgate_lab.hunt.world import Pod, Policy, State
from ebbgate_lab.sources import Manifest
from ebbgate_resolver.core import listing
from ebbgate_watcher.core import objects

FENCE = "fence"
"""A policy that chooses nobody. Once it is judged, all facts stored before it have been considered."""
_NAMESPACE: Manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}
_PLACES = {place.name: place for place in world.PODS}


def of(state: State) -> dict[str, Manifest]:
    """All objects of a state, by a key that stays the same while the object does."""
    return {
        "namespace": _NAMESPACE,
        **{f"node {name}": _node(name, roles) for name, roles in state.roles.items()},
        **{f"policy {name}": _policy(name, policy) for name, policy in state.policies.items()},
        **{f"pod {pod.number}": _pod(_PLACES[name], pod) for name, pod in state.pods.items()},
    }


def fence(number: int) -> Manifest:
    return _policy(FENCE, Policy(0, (f"192.0.2.{number % 256}/32",), (), (world.Gateway("nobody", ""),)))


def publish(scene: lab.Lab, before: State, after: State) -> None:
    """What differs, object by object. A pod that takes another's place is there before that one is gone."""
    old, new = of(before), of(after)
    for key, manifest in new.items():
        if old.get(key) != manifest:
            scene.source.apply(manifest)
    for key in old.keys() - new.keys():
        scene.source.delete(old[key])
    for node, addresses in after.addresses.items():
        held = before.addresses[node]
        for verb, ips in (("del", set(held) - set(addresses)), ("add", set(addresses) - set(held))):
            for ip in ips:
                scene.topology.run(node, "ip", "addr", verb, *_with_length(ip), "dev", world.INTERFACE)


def _with_length(ip: str) -> tuple[str, ...]:
    """IPv6 addresses are there at once, without a second of "tentative"."""
    return (f"{ip}/24",) if world.family(ip) == "ipv4" else (f"{ip}/64", "nodad")


def known(seen: observer.Observer, state: State) -> bool:
    """Do the facts on the bus tell of `state`, and of nothing else? A node without a Node object may be
    silent.
    """
    wanted = dict(map(_fact, of(state).values()))
    told = seen.under(f"{subjects.ROOT}.fact.")
    networks = [told.pop(subject) for subject in list(told) if ".nodenetwork." in subject]
    for other in (_fact(fence(0))[0], subjects.FACT_WRITER):
        told.pop(other, None)
    held = {each.node: _addresses(each) for each in networks if isinstance(each, facts.NodeNetwork)}
    return {subject: _ungenerated(fact) for subject, fact in told.items()} == wanted and all(
        held.get(node) == sorted(state.addresses[node], key=world.family) for node in state.roles
    )


def planned(seen: observer.Observer, state: State) -> bool:
    """Do the rows on the bus say for each pod and destination what `state` asks for?"""
    rows = seen.under(f"{subjects.ROOT}.plan.")
    entries = listing.entries({subject: codec.encode(row) for subject, row in rows.items()})
    return all(
        _answer(entries, place, destination) in world.answers(state, place, destination)
        for place in world.PODS
        for destination in world.DESTINATIONS
    )


def _answer(entries: list[listing.Entry], place: topology.Pod, destination: str) -> str | None:
    (source,) = world.of_family(_pod_ips(place), world.family(destination))
    to = ipaddress.ip_address(destination)
    networks = [
        (ipaddress.ip_network(entry.destination).prefixlen, entry)
        for entry in entries
        if entry.source == source and to in ipaddress.ip_network(entry.destination)
    ]
    _, found = max(networks, default=(0, None))
    if found is None or found.gateway_ip == listing.EXCLUDED:
        return world.node_ip(place.node, destination)
    return None if ipaddress.ip_address(found.egress_ip).is_unspecified else found.egress_ip


def _pod_ips(place: topology.Pod) -> tuple[str, str]:
    return place.address, topology.twin(place.address)


def _fact(manifest: Manifest) -> tuple[str, Message]:
    said = objects.normalise(manifest)
    assert isinstance(said, objects.Observed), said
    return said.subject, said.fact


def _ungenerated(fact: Message) -> Message:
    """Without what the source counts."""
    return msgspec.structs.replace(fact, generation=0) if isinstance(fact, facts.Policy) else fact


def _addresses(network: facts.NodeNetwork) -> list[str]:
    """Those of INTERFACE, in its order, IPv4 first."""
    return [
        address.partition("/")[0]
        for interface in network.interfaces
        if interface.name == world.INTERFACE
        for address in interface.addresses
    ]


def _node(name: str, roles: tuple[str, ...]) -> Manifest:
    (pod_cidr,) = {place.address.rpartition(".")[0] + ".0/24" for place in world.PODS if place.node == name}
    ips = [{"type": "InternalIP", "address": ip} for ip in world.NODES[name]]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {f"egress-{role}": "yes" for role in roles}},
        "spec": {"podCIDRs": [pod_cidr, topology.twin_cidr(pod_cidr)]},
        "status": {"addresses": ips},
    }


def _pod(place: topology.Pod, pod: Pod) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{place.name}-{pod.number}",
            "namespace": "default",
            "uid": f"uid-{pod.number}",
            "creationTimestamp": _created(pod.number),
            "labels": {"team": pod.team},
        },
        "spec": {"nodeName": place.node, "containers": [{"name": "c", "image": "x"}]},
        "status": {"phase": "Running", "podIPs": [{"ip": ip} for ip in _pod_ips(place)]},
    }


def _policy(name: str, policy: Policy) -> Manifest:
    teams = list(world.SELECTS.get(name, ()))
    chosen = {"matchExpressions": [{"key": "team", "operator": "In", "values": teams or ["nobody"]}]}
    age = list(world.SELECTS).index(name) if name in world.SELECTS else len(world.SELECTS)
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumEgressGatewayPolicy",
        "metadata": {
            "name": name,
            "uid": f"{name}-{policy.number}",
            "creationTimestamp": _created(age),
        },
        "spec": {
            "selectors": [{"podSelector": chosen}],
            "destinationCIDRs": list(policy.destinations),
            "excludedCIDRs": list(policy.excluded),
            "egressGateways": [_gateway(gateway) for gateway in policy.gateways],
        },
    }


def _gateway(gateway: world.Gateway) -> Manifest:
    source = {"egressIP": gateway.egress_ip} if gateway.egress_ip else {"interface": world.INTERFACE}
    return {"nodeSelector": {"matchLabels": {f"egress-{gateway.role}": "yes"}}, **source}


def _created(second: int) -> str:
    return f"2026-01-01T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"
