"""Rows: keyed pieces of desired state, and the Commits that end a revision.

Scope `all` holds what every node shares (sets, groups, peers, cluster CIDRs), scope `node.<name>` what is one
node's alone (endpoints, egress IPs). The key of a row is its subject; a payload never repeats it. Rows are
small
and shared so that a policy change or a failover costs a handful of messages, however many pods and nodes
there are.
"""

import enum

import msgspec

from ebbgate_bus.contracts.message import Message

BUCKETS = 64
"""Buckets of a group: each pod hashes to one, each bucket to a gateway."""
NO_PATH = -1
"""A bucket without path: its traffic is dropped."""
NO_SLOT = 0
"""A gateway is known, but not (or not yet) an egress IP on it: its traffic is dropped."""
SLOT_MIN, SLOT_MAX = 16, 4095
"""Slots below 16 are marks with other meanings (see the programmer's `marks`)."""
ROUTES_PER_CHUNK = 512


class Action(enum.StrEnum):
    STEER = "steer"
    EXCLUDE = "exclude"
    DROP = "drop"


class Route(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`cidr` in network form. `group`: the uid of the policy whose gateways serve it. `policy`: its name."""

    cidr: str
    action: Action
    group: str
    policy: str


class Routes(Message, frozen=True):
    """One chunk of a set: at most ROUTES_PER_CHUNK routes, by CIDR. `policies`: names, of the whole set."""

    policies: tuple[str, ...]
    routes: tuple[Route, ...] = ()


class Path(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`gateway_ip`: node address that traffic is sent to. `slot`: names the egress IP there, or NO_SLOT."""

    node: str
    gateway_ip: str
    slot: int


class Paths(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`buckets`: BUCKETS indexes into `paths`, or NO_PATH."""

    paths: tuple[Path, ...]
    buckets: tuple[int, ...]


class Group(Message, frozen=True):
    """The gateways that share a policy's traffic, per family; a family without destinations is absent.

    `awaiting`: nodes whose Applied doesn't show the slot yet; until it does the old path, or none, stays.
    `traffic`: hash of what the policy chooses, pods and destinations: an old path stays for the same only.
    """

    policy: str
    ipv4: Paths | None = None
    ipv6: Paths | None = None
    awaiting: tuple[str, ...] = ()
    traffic: str = ""


class Peer(Message, frozen=True):
    """Addresses from which a node's tunnel packets may come."""

    addresses: tuple[str, ...]


class Cluster(Message, frozen=True):
    """A destination that is never steered. `source`: why, for people ("podCIDR of node1")."""

    cidr: str
    source: str = ""


class Endpoint(Message, frozen=True):
    """`set`: id of the combination of policies. `bucket`: hash of the pod's uid. `pod`: namespace/name."""

    ip: str
    set: str
    bucket: int
    pod: str


class Egress(Message, frozen=True):
    """A slot on its gateway. `interface`: the one that holds `egress_ip`. `policies`: names, for people."""

    egress_ip: str
    interface: str = ""
    policies: tuple[str, ...] = ()


class Commit(Message, frozen=True):
    """End of a revision of a scope: `count` and `digest` (16 hex digits) of all its live rows, Commits
    excluded.

    `all_revision`: on a node's Commit, the revision of scope `all` that its rows were made for.
    """

    epoch: int
    revision: int
    count: int
    digest: str
    all_revision: int = 0


class PolicyInForce(Message, frozen=True):
    """The last good version of a policy: what it does now, even when a newer version is rejected."""

    uid: str
    generation: int = 0
    created: str = ""
    spec: msgspec.Raw = msgspec.Raw(b"null")


class Writer(Message, frozen=True):
    """Who writes PLAN or FACT: `epoch` grows with each process that takes over, `revision` by batch."""

    epoch: int
    revision: int


Row = Routes | Group | Peer | Cluster | Endpoint | Egress | PolicyInForce
