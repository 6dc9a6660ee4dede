"""What `explain` answers: one packet's fate, and why it isn't another. Types only.

Leg: beside the walk, for people and as the oracle of tests. An explanation is complete without its reasons:
programs read the fields, people the trees of `Why`.
"""

import enum

import msgspec


class Outcome(enum.StrEnum):
    STEERED = "steered"
    DROPPED = "dropped"
    EXCLUDED = "excluded"
    NOT_MATCHED = "not matched"
    CLUSTER = "cluster-internal"
    NEVER = "never steered"


class Result(enum.StrEnum):
    """What became of one policy for one packet."""

    DECIDES = "decides"
    WOULD_DECIDE = "would decide, were the destination not outside all policies"
    LESS_SPECIFIC = "less specific"
    CONFLICT = "lost a conflict"
    NOT_COVERED = "no destination covers it"
    NOT_CHOSEN = "doesn't choose the pod"
    REJECTED = "rejected"


class Why(msgspec.Struct, frozen=True, omit_defaults=True):
    """One reason and what is behind it."""

    text: str
    because: tuple["Why", ...] = ()


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of one policy. `cidr`: its most specific one that covers the destination, or empty."""

    policy: str
    result: Result
    cidr: str = ""
    why: tuple[Why, ...] = ()


class Explanation(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`reason`: one sentence. `policy`, `cidr`: what decided. `gateway`: a node, `gateway_ip` its address.

    `slot`: names the egress IP on its gateway. `why`: about pod and gateway. `policies`: all, by name.
    """

    outcome: Outcome
    reason: str
    pod: str
    node: str = ""
    source: str = ""
    destination: str
    policy: str = ""
    cidr: str = ""
    gateway: str = ""
    gateway_ip: str = ""
    egress_ip: str = ""
    interface: str = ""
    slot: int = 0
    why: tuple[Why, ...] = ()
    policies: tuple[Answer, ...] = ()
