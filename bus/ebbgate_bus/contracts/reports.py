"""Reports: what became of what was wanted. The walk's way back."""

import enum

import msgspec

from ebbgate_bus.contracts.message import Message


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One thing a node couldn't do. `row`: subject of the row it was for, or empty. `policy`: name, if
    known.
    """

    reason: str
    row: str = ""
    policy: str = ""


class Applied(Message, frozen=True):
    """What one node's kernel holds, as read back from it.

    `all_revision`, `node_revision`: the Commits applied. `digest`: of the node's own scope.
    `slots`: slot → egress IP, as the kernel has it. `counts`: kind → number (endpoints, routes, paths,
    peers, slots).
    `drift_repairs`: how often something of ours was changed by others and put back. `took_ms`: of the last
    apply.
    """

    node: str
    epoch: int = 0
    all_revision: int = 0
    node_revision: int = 0
    digest: str = ""
    slots: dict[str, str] = {}
    counts: dict[str, int] = {}
    drift_repairs: int = 0
    took_ms: float = 0.0
    problems: tuple[Problem, ...] = ()


class Truth(enum.StrEnum):
    """Kubernetes' three values of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    type: str
    status: Truth
    reason: str
    message: str = ""


class ServingGateway(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """`egress_ips`: those found on it for this policy, one per family at most. `pods`: how many of the
    policy's pods it serves.
    """

    node: str
    gateway_ip: str
    egress_ips: tuple[str, ...] = ()
    pods: int = 0


class Verdict(Message, frozen=True):
    """What became of a policy. `generation`: of the version judged; `in_force`: of the version that works
    now.
    """

    policy: str
    uid: str
    generation: int = 0
    in_force: int = 0
    conditions: tuple[Condition, ...] = ()
    gateways: tuple[ServingGateway, ...] = ()
    pods: int = 0
    nodes_wanted: tuple[str, ...] = ()
    nodes_programmed: tuple[str, ...] = ()


STATS_S = 5.0
"""How often a node tells its Stats, if anything was counted since."""


class Traffic(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """[packets, bytes], since the node's maps were made."""

    packets: int = 0
    bytes: int = 0


class PolicyTraffic(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Of a policy's pods on one node. `steered`: into the tunnel; `local`: out of this very node.
    `connections`: those that began and were steered. `drops`: reason → packets.
    """

    steered: Traffic = Traffic()
    local: Traffic = Traffic()
    connections: int = 0
    drops: dict[str, int] = {}


class SlotTraffic(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Of an egress IP on its gateway. `arrived`: by the tunnel, from pods on other nodes."""

    egress_ip: str
    policies: tuple[str, ...] = ()
    arrived: Traffic = Traffic()


class Stats(Message, frozen=True):
    """What one node's kernel counted. `policies`: by name. `slots`: by number. `drops`: reason → packets of
    the whole node, whatever the policy; the reasons are those of `Dropped`, and `ports_exhausted`: new
    connections that found no free port, or no room in conntrack's table.
    """

    node: str
    policies: dict[str, PolicyTraffic] = {}
    slots: dict[str, SlotTraffic] = {}
    drops: dict[str, int] = {}


class Dropped(Message, frozen=True):
    """One packet that a node dropped. Not stored, and not all are told: a node tells some fifty a second.

    `reason`: no_gateway, no_egress_ip, route (the policy can't be served), no_endpoint (the pod isn't known
    yet), unknown_peer, bad_vni, no_return, no_mark, not_ip, unrouted, unclassified, not_translated.
    `protocol`: number. `source`: for unknown_peer the sender's address.
    """

    node: str
    reason: str
    source: str
    destination: str
    protocol: int = 0
    source_port: int = 0
    destination_port: int = 0
    pod: str = ""
    policy: str = ""


class Beat(Message, frozen=True):
    """Liveness of one process of a service. `version`: Ebbgate's. `behind_s`: for so long there has been
    something that it heard and hasn't worked through yet, by its own clock; 0: there is nothing; absent:
    that isn't said. `starting`: it hasn't been ready yet, and `behind_s` counts from its start.
    """

    service: str
    name: str
    version: str = ""
    behind_s: float | None = None
    starting: bool = False
