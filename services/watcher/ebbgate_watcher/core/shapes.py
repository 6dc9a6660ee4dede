"""Shapes: the fields of Kubernetes' JSON that some fact needs, and no others.

First half of the leg *normalise*: msgspec skips what isn't named here, which makes reading a pod some eighty
times cheaper than building the official client's models. A shape judges nothing: null and absent are the same
(Kubernetes writes both), and what a field may hold is decided in `objects`. The form of `spec` of a policy is
deliberately open: who wrote it may be wrong, and saying so is the resolver's work.
"""

import msgspec

NOTHING = msgspec.Raw(b"null")
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that aren't what they should be, nested without end among them."""
API_DEPTH = 10_000
"""How deep JSON of an API server can be nested: Go's own limit. Even of such an object the name has to be
read, so that it doesn't make a whole list unreadable.
"""


class Shape(msgspec.Struct, rename="camel", gc=False):
    """A JSON object of Kubernetes, in part."""


class Metadata(Shape):
    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    generation: int | None = None
    creation_timestamp: str | None = None
    labels: dict[str, str] | None = None


class Object(Shape):
    metadata: Metadata | None = None


class Name(Shape):
    name: str | None = None
    namespace: str | None = None
    resource_version: str | None = None


class BookmarkMetadata(Shape):
    resource_version: str | None = None
    annotations: dict[str, str] | None = None


class Bookmark(Shape):
    """How far a watch has come, without an object."""

    metadata: BookmarkMetadata | None = None


class Named(Shape):
    """Only what tells which object it is: to be read where something else of it is wrong."""

    metadata: Name | None = None


class PodIp(Shape):
    ip: str | None = None


class PodSpec(Shape):
    node_name: str | None = None
    host_network: bool | None = None


class PodStatus(Shape):
    phase: str | None = None
    pod_ip: str | None = msgspec.field(default=None, name="podIP")
    pod_ips: list[PodIp] | None = msgspec.field(default=None, name="podIPs")


class Pod(Object):
    spec: PodSpec | None = None
    status: PodStatus | None = None


class NodeSpec(Shape):
    pod_cidr: str | None = msgspec.field(default=None, name="podCIDR")
    pod_cidrs: list[str] | None = msgspec.field(default=None, name="podCIDRs")


class NodeAddress(Shape):
    type: str
    address: str


class NodeStatus(Shape):
    addresses: list[NodeAddress] | None = None


class Node(Object):
    spec: NodeSpec | None = None
    status: NodeStatus | None = None


class Policy(Object):
    spec: msgspec.Raw = NOTHING
    status: msgspec.Raw = NOTHING


class ServiceCidrSpec(Shape):
    cidrs: list[str] | None = None


class ServiceCidr(Object):
    spec: ServiceCidrSpec | None = None


class Interface(Shape):
    name: str
    index: int
    alt_names: list[str] | None = None
    addresses: list[str] | None = None
    default_route: list[str] | None = None


class NodeNetworkSpec(Shape):
    interfaces: list[Interface] | None = None


class NodeNetwork(Object):
    spec: NodeNetworkSpec | None = None


class TypeMeta(Shape):
    """What says which shape the rest has. Items of a list come without it."""

    api_version: str | None = None
    kind: str | None = None


class ListMetadata(Shape):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class Page(Shape):
    """One page of a list."""

    metadata: ListMetadata
    items: list[msgspec.Raw] | None = None


class WatchLine(Shape):
    """One line of a watch: `object` is one of the kind watched, a bookmark, or a Status."""

    type: str
    object: msgspec.Raw = NOTHING


class Status(Shape):
    """Kubernetes' answer to what went wrong."""

    code: int = 0
    reason: str = ""
    message: str = ""
