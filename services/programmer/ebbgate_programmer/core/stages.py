"""Stages of a pass: which part of the kernel was worked on, from when to when. For traces and metrics.

Beside the walk: nothing is decided by them. Neighbours of one stage are one span, so that a pass over 10,000
rows is a handful of them.
"""

import enum
from collections.abc import Iterable, Sequence

import msgspec

from ebbgate_programmer.core import changes

MAX_SPANS = 64
"""Of one pass. Changes come in an order in which stages seldom alternate; a pass with more tells its last
ones as one.
"""


class Stage(enum.StrEnum):
    LOWER = "lower"
    READ = "read"
    DIFF = "diff"
    BPF = "bpf"
    NFT = "nft"
    NETLINK = "netlink"
    SYSCTL = "sysctl"
    CONNTRACK = "conntrack"
    READ_BACK = "read back"


class Span(msgspec.Struct, frozen=True, gc=False):
    """Nanoseconds since 1970."""

    stage: Stage
    began_ns: int
    ended_ns: int


_STAGES: dict[type[changes.Change], Stage] = {
    changes.SetFirewall: Stage.NFT,
    changes.UpdateSets: Stage.NFT,
    changes.SetDevice: Stage.NETLINK,
    changes.AddWay: Stage.NETLINK,
    changes.RemoveWay: Stage.NETLINK,
    changes.AddRule: Stage.NETLINK,
    changes.RemoveRule: Stage.NETLINK,
    changes.LoadPrograms: Stage.BPF,
    changes.AttachPrograms: Stage.BPF,
    changes.RemoveLayouts: Stage.BPF,
    changes.SetGuards: Stage.BPF,
    changes.SetDirect: Stage.BPF,
    changes.Put: Stage.BPF,
    changes.Drop: Stage.BPF,
    changes.SetSysctl: Stage.SYSCTL,
    changes.ForgetPods: Stage.CONNTRACK,
    changes.ForgetStale: Stage.CONNTRACK,
    changes.ForgetSlots: Stage.CONNTRACK,
}


def of(change: changes.Change) -> Stage:
    return _STAGES[type(change)]


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Neighbours of one stage put together. `spans` in the order of time."""
    found: list[Span] = []
    for span in spans:
        if found and (found[-1].stage == span.stage or len(found) == MAX_SPANS):
            found[-1] = Span(found[-1].stage, found[-1].began_ns, span.ended_ns)
        else:
            found.append(span)
    return tuple(found)


def took_ms(spans: Sequence[Span]) -> dict[str, float]:
    """By stage, in the order in which they began."""
    found: dict[str, float] = {}
    for span in spans:
        found[span.stage] = found.get(span.stage, 0.0) + (span.ended_ns - span.began_ns) / 1e6
    return {stage: round(milliseconds, 3) for stage, milliseconds in found.items()}
