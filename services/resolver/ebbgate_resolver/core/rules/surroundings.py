"""Peers and cluster rows: what surrounds the policies. Who may send through tunnels, what is never steered.

Leg: a part of Inventory → Rows. Cluster-internal destinations are found from the API (pod CIDRs, service
CIDRs, node addresses) plus a setting: a policy for 0.0.0.0/0 must not break the cluster's own traffic.
"""

from collections.abc import Iterable, Iterator

from ebbgate_bus.contracts import facts, rows, subjects
from ebbgate_resolver.core import addresses, answers, inventory
from ebbgate_resolver.core.rules import gateways


def peers(known: inventory.Inventory) -> dict[str, rows.Peer]:
    """Subject → row, for each node with an internal address."""
    found = {subjects.peer(name): peer(node) for name, node in sorted(known.nodes.items())}
    return {subject: row for subject, row in found.items() if row}


def peer(node: facts.Node) -> rows.Peer | None:
    own = gateways.underlay(node)
    return rows.Peer(addresses=own) if own else None


def notes_of_node(name: str, known: inventory.Inventory) -> list[answers.Note]:
    """Why a node that exists can't be a gateway, whatever policies ask of it."""
    ip = gateways.address_of(known.nodes[name])
    if ip is None:
        reason = "it has no internal IP address, so it can be neither gateway nor source"
        return [answers.note("node.ignored", node=name, reason=reason)]
    if twins := gateways.twins(name, known):
        return [answers.note("node_ip.shared", ip=ip, node=name, others=", ".join(twins))]
    return []


def clusters(known: inventory.Inventory, setting: Iterable[str]) -> dict[str, rows.Cluster]:
    """Subject → row. Of several sources of one CIDR the first in the alphabet is named."""
    found: dict[str, str] = {}
    for source, text in sorted(((source, text) for text, source in _sources(known, setting)), reverse=True):
        network = addresses.network(text)
        if network is not None:
            found[str(network)] = source
    return {
        subjects.cluster(cidr): rows.Cluster(cidr=cidr, source=source)
        for cidr, source in sorted(found.items())
    }


def _sources(known: inventory.Inventory, setting: Iterable[str]) -> Iterator[tuple[str, str]]:
    for cidr in setting:
        yield cidr, "setting"
    for name, node in known.nodes.items():
        yield from sources_of_node(name, node)
    for name, service_cidr in known.service_cidrs.items():
        yield from sources_of_service_cidr(name, service_cidr)


def sources_of_node(name: str, node: facts.Node) -> Iterator[tuple[str, str]]:
    """CIDR, and why it is the cluster's."""
    for cidr in node.pod_cidrs:
        yield cidr, f"podCIDR of {name}"
    for text in node.addresses or node.internal_ips:
        if (ip := addresses.address(text)) is not None:
            yield addresses.host_network(ip), f"address of {name}"


def sources_of_service_cidr(name: str, service_cidr: facts.ServiceCidr) -> Iterator[tuple[str, str]]:
    return ((cidr, f"ServiceCIDR {name}") for cidr in service_cidr.cidrs)
