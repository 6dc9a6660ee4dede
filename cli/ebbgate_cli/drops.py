"""Dropped packets on paper: why, in plain words, and what to do. Pure; what `ebbgate drops` prints.

Each reason that a node can tell or count has its words here; a test compares them with the programmer's.
"""

import json

import msgspec

from ebbgate_bus.contracts import reports


class Reason(msgspec.Struct, frozen=True):
    """`hint`: what to do; {policy} and {node} are those of the packet."""

    meaning: str
    hint: str


_POLICY, _DOCTOR = "ebbgate policies {policy}", "on {node}: ebbgate-programmer doctor"
REASONS = {
    "no_gateway": Reason("the policy has no gateway for it", _POLICY),
    "no_egress_ip": Reason("the gateway has no egress IP of its family", _POLICY),
    "route": Reason("the policy can't be served", _POLICY),
    "no_endpoint": Reason(
        "the node doesn't know the pod's policies yet, as when a pod starts", "if it goes on: ebbgate nodes"
    ),
    "unknown_peer": Reason(
        "a tunnel packet from an address that is no node's",
        "if it is a node's: ebbgate nodes; else a stranger sends",
    ),
    "bad_vni": Reason(
        "a tunnel packet that names no egress IP",
        "ebbgate nodes: do all run one version? else a stranger sends",
    ),
    "no_return": Reason(
        "an answer to a pod whose node the gateway has forgotten", "passes with the pod's next packet"
    ),
    "no_mark": Reason(
        "a packet on its way into the tunnel that Ebbgate didn't send there",
        f"a few are the kernel's own; if they grow, {_DOCTOR}",
    ),
    "not_ip": Reason("a frame in the tunnel that isn't IP", _DOCTOR),
    "unrouted": Reason(
        "it was to go by the tunnel and was about to leave elsewhere: a rule or route is missing", _DOCTOR
    ),
    "unclassified": Reason("nftables didn't look at it: Ebbgate's tables were changed or removed", _DOCTOR),
    "not_translated": Reason("it was about to leave without its egress IP: other NAT was first", _DOCTOR),
    "no_connection": Reason(
        "conntrack knows no connection of it: the last packet of one that ended when its policy changed",
        "if they grow without such changes, the pod's connections come in past this node's conntrack",
    ),
    "ports_exhausted": Reason(
        "new connections found no free port, or no room in conntrack's table", "more egress IPs; " + _DOCTOR
    ),
}
COUNTED = ("no_mark", "not_ip", "no_connection", "ports_exhausted")
"""No packet is told with these."""
TOLD = tuple(name for name in REASONS if name not in COUNTED)
_UNKNOWN = Reason("a reason that this version of ebbgate doesn't know", "use the version that the nodes run")
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}


class Wanted(msgspec.Struct, frozen=True):
    """Empty: any."""

    policy: str = ""
    pod: str = ""
    node: str = ""
    reason: str = ""

    def has(self, drop: reports.Dropped) -> bool:
        asked = (self.policy, self.pod, self.node, self.reason)
        told = (drop.policy, drop.pod, drop.node, drop.reason)
        return all(not one or one == other for one, other in zip(asked, told, strict=True))


def reason(drop: reports.Dropped) -> Reason:
    """With the packet's names in the hint; without a policy all are to be looked at."""
    found = REASONS.get(drop.reason, _UNKNOWN)
    return Reason(found.meaning, found.hint.format(policy=drop.policy, node=drop.node).strip())


def line(drop: reports.Dropped, clock: str) -> str:
    """`clock node pod source → destination policy: why (its word); try: what to do`."""
    why = reason(drop)
    who = f"{drop.pod} {_end(drop.source, drop.source_port)}".strip()
    where = f"{_end(drop.destination, drop.destination_port)}/{_protocol(drop.protocol)}"
    policy = f"policy {drop.policy}: " if drop.policy else ""
    return f"{clock}  {drop.node}  {who} → {where}  {policy}{why.meaning} ({drop.reason}); {why.hint}"


def as_json(drop: reports.Dropped, time: str) -> str:
    """One object on one line: the message as it came, when it came, and the words."""
    why = reason(drop)
    told = msgspec.to_builtins(drop)
    return json.dumps({"time": time, **told, "meaning": why.meaning, "hint": why.hint})


def _end(address: str, port: int) -> str:
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _protocol(number: int) -> str:
    return _PROTOCOLS.get(number, f"protocol {number}")
