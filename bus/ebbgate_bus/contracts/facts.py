"""Facts: objects as they were observed, normalised. The first station of the walk.

A fact holds what some later step needs and nothing else, so that a change nobody cares about (a heartbeat, a
managed field) makes equal bytes and is not published. A fact decides nothing: a policy's `spec` travels as it
was written, and the resolver is who accepts or rejects it. Absence is `Gone`: an empty payload on the bus.
"""

import msgspec

from ebbgate_bus.contracts.message import Message

KINDS = ("pod", "namespace", "node", "policy", "servicecidr")
"""The watcher's kinds: those whose `Synced` the resolver waits for."""


class Gone(msgspec.Struct, frozen=True, tag=True):
    """The object no longer exists. Encoded as an empty payload."""


GONE = Gone()


class Pod(Message, frozen=True):
    """`ips`: canonical, in status order. `phase`: Kubernetes' word. `uid`: `namespace/name` if the source
    has none. `created`: creationTimestamp (RFC 3339, UTC) or empty: of two pods with one IP the newer has it.
    """

    namespace: str
    name: str
    uid: str
    node: str = ""
    ips: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    phase: str = ""
    host_network: bool = False
    created: str = ""


class Namespace(Message, frozen=True):
    name: str
    labels: dict[str, str] = {}


class Node(Message, frozen=True):
    """`addresses`: InternalIP first, then ExternalIP, canonical. `internal_ips`: the InternalIPs among
    them.
    """

    name: str
    labels: dict[str, str] = {}
    internal_ips: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    pod_cidrs: tuple[str, ...] = ()


class Policy(Message, frozen=True):
    """One CiliumEgressGatewayPolicy, unjudged.

    `spec`: the object's JSON with sorted keys, or `null`. `created`: creationTimestamp (RFC 3339, UTC) or
    empty.
    `uid`: the policy's name if the source has none.
    """

    name: str
    uid: str
    generation: int = 0
    created: str = ""
    spec: msgspec.Raw = msgspec.Raw(b"null")


class ServiceCidr(Message, frozen=True):
    name: str
    cidrs: tuple[str, ...] = ()


class Interface(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """`addresses`: CIDR notation with host bits, in the interface's order, usable ones only (no link-local,
    tentative or deprecated). `default_route`: the families ("ipv4", "ipv6") whose default route leaves here.
    """

    name: str
    index: int
    alt_names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    default_route: tuple[str, ...] = ()


class NodeNetwork(Message, frozen=True):
    """What a node reports of itself, read from its kernel by its programmer. `interfaces`: by index."""

    node: str
    interfaces: tuple[Interface, ...] = ()


class Synced(Message, frozen=True):
    """All objects of `kind` that existed when the watcher listed have been published and acknowledged.

    `objects`: how many there were. `missing`: the API doesn't know the kind, and the list is empty for that
    reason.
    """

    kind: str
    objects: int = 0
    missing: bool = False


Fact = Pod | Namespace | Node | Policy | ServiceCidr | NodeNetwork
