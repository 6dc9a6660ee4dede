"""Which nodes are the gateways of a policy, with which egress IPs, and which of them a bucket gets.

Leg: a part of Inventory → Rows. Stateless: the answer follows from the facts alone, so that every resolver
gives the same one after any history. Alive means that the Node exists.

A node serves if its address is no other node's, and it has, for at least one family of the policy, the egress
IP that is asked for; each family stands alone. With an egress IP of one family given, destinations of the
other family get the first address of the same interface, as in Cilium.
"""

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping

import msgspec

from ebbgate_bus.contracts import facts, rows
from ebbgate_resolver.core import addresses, inventory
from ebbgate_resolver.core.rules import policies, selectors

Matching = Callable[[selectors.Selector], Iterable[str]]
"""The names of the nodes that match a selector, sorted."""


class EgressAddress(msgspec.Struct, frozen=True):
    ip: str
    interface: str


class Gateway(msgspec.Struct, frozen=True):
    """`key`: names it among the gateways of its policy, whatever its addresses. `egress`: by family."""

    key: str
    node: str
    gateway_ip: str
    egress: dict[str, EgressAddress] = {}


def choose(policy: policies.Policy, known: inventory.Inventory) -> tuple[Gateway, ...]:
    """In the order of the policy's list, at most one for each of its items.

    Of several gateways those that can't serve are left out while another can: their pods would be dropped.
    """

    def matching(selector: selectors.Selector) -> Iterable[str]:
        names = sorted(known.nodes)
        return (name for name in names if selectors.matches(selector, known.nodes[name].labels))

    return choose_among(policy, known, matching)


def choose_among(
    policy: policies.Policy, known: inventory.Inventory, matching: Matching
) -> tuple[Gateway, ...]:
    """`choose`, for who knows already which nodes match."""
    found: list[Gateway] = []
    for choice in policy.gateways:
        gateway = _first(choice, policy.families, known, matching(choice.nodes))
        # Several items that lead to the same address are one gateway, or it would get a double share.
        if gateway and (gateway.node, gateway.egress) not in [(each.node, each.egress) for each in found]:
            ordinal = sum(gateway.node == each.node for each in found)
            found.append(msgspec.structs.replace(gateway, key=f"{gateway.node}#{ordinal}"))
    serving = tuple(gateway for gateway in found if gateway.egress)
    return serving or tuple(found)


def _first(
    choice: policies.GatewayChoice,
    families: tuple[str, ...],
    known: inventory.Inventory,
    matching: Iterable[str],
) -> Gateway | None:
    """
    | matching nodes | answer |
    |---|---|
    | none | none |
    | some can serve | the first of these by name |
    | none can serve | the first by name, without egress IP: it drops |
    """
    spare = None
    for name in matching:
        gateway_ip = address_of(known.nodes[name])
        if gateway_ip is None:
            continue
        alone = not twins(name, known)
        egress = egress_addresses(choice, known.network(name), families) if alone else {}
        if egress:
            return Gateway(name, name, gateway_ip, egress)
        spare = spare or Gateway(name, name, gateway_ip)
    return spare


def address_of(node: facts.Node) -> str | None:
    """The address that a node's tunnel traffic is sent to."""
    return next(iter(underlay(node)), None)


def underlay(node: facts.Node) -> tuple[str, ...]:
    """Internal addresses that tunnel traffic goes by: IPv4, or IPv6 where the node has no other."""
    by_family = [
        tuple(ip for ip in node.internal_ips if addresses.family_of_text(ip) == family)
        for family in addresses.FAMILIES
    ]
    return by_family[0] or by_family[1]


def twins(name: str, known: inventory.Inventory) -> list[str]:
    """Other nodes with the address that this one's tunnel traffic is sent to. Which of them it reaches nobody
    knows, and a slot may mean another egress IP there: so none of them can serve.
    """
    ip = address_of(known.nodes[name])
    return sorted(known.nodes_at(ip) - {name}) if ip else []


def egress_addresses(
    choice: policies.GatewayChoice, network: facts.NodeNetwork | None, families: Iterable[str]
) -> dict[str, EgressAddress]:
    """By family; a family for which the node has none is absent."""
    found = {}
    for family in families:
        address = _egress_address(choice, network, family) if network else None
        if address is not None:
            found[family] = address
    return found


def _egress_address(
    choice: policies.GatewayChoice, network: facts.NodeNetwork, family: str
) -> EgressAddress | None:
    """`given`: the very address asked for; only where its family isn't this one, the first address serves."""
    given = choice.egress_ip if addresses.family_of_text(choice.egress_ip) == family else ""
    for interface in sorted(network.interfaces, key=lambda each: each.index):
        if _serves(choice, interface, family):
            ip = given or _first_address(interface, family)
            if ip:
                return EgressAddress(ip, interface.name)
    return None


def _first_address(interface: facts.Interface, family: str) -> str:
    own = (addresses.interface_address(text) for text in interface.addresses)
    return next((str(ip) for ip in own if ip and addresses.family(ip) == family), "")


def _serves(choice: policies.GatewayChoice, interface: facts.Interface, family: str) -> bool:
    if choice.interface:
        return choice.interface in (interface.name, *interface.alt_names)
    if choice.egress_ip:
        return has_address(interface, choice.egress_ip)
    return family in interface.default_route


def has_address(interface: facts.Interface, ip: str) -> bool:
    return any(str(addresses.interface_address(text)) == ip for text in interface.addresses)


def share(gateways: Iterable[Gateway]) -> tuple[str, ...]:
    """Bucket → key of its gateway, by rendezvous hashing: a lost gateway moves its own buckets, a new one
    draws some to itself, no other moves. Empty text: there is no gateway.
    """
    return _share(tuple(sorted(gateway.key for gateway in gateways)))


@functools.lru_cache(maxsize=4096)
def _share(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(
        max(keys, key=lambda key: (_weight(bucket, key), key), default="") for bucket in range(rows.BUCKETS)
    )


def _weight(bucket: int, key: str) -> bytes:
    return hashlib.blake2b(f"{bucket}/{key}".encode(), digest_size=8).digest()


def by_key(gateways: Iterable[Gateway]) -> Mapping[str, Gateway]:
    return {gateway.key: gateway for gateway in gateways}
