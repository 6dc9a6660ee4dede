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


class Beat(Message, frozen=True):
    """Liveness of one process of a service."""

    service: str
    name: str
