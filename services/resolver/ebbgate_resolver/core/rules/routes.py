"""The routes of a set: which of several policies serves which destination.

Leg: a part of Inventory → Rows. The most specific CIDR wins in the kernel, by longest prefix, over all
policies of a pod; here only the same CIDR from two policies is decided: the older policy wins, then the
smaller name, be it destination or exclusion, and the loser is told. Within one policy the exclusion wins.
"""

import functools
from collections.abc import Sequence

import msgspec

from ebbgate_bus.contracts import digests, rows
from ebbgate_resolver.core import addresses
from ebbgate_resolver.core.rules import policies


class Conflict(msgspec.Struct, frozen=True, order=True):
    loser: str
    winner: str
    cidr: str


def set_id(members: Sequence[policies.Policy]) -> str:
    return digests.short_hash(*sorted(policy.uid for policy in members))


def merge(members: Sequence[policies.Policy]) -> tuple[dict[str, rows.Route], tuple[Conflict, ...]]:
    """CIDR → route, and what was lost on the way."""
    merged: dict[str, rows.Route] = {}
    conflicts = []
    for policy in sorted(members, key=lambda each: each.seniority):
        for cidr, action in _actions(policy).items():
            winner = merged.setdefault(cidr, rows.Route(cidr, action, policy.uid, policy.name))
            if winner.group != policy.uid:
                conflicts.append(Conflict(policy.name, winner.policy, cidr))
    return merged, tuple(sorted(conflicts))


def _actions(policy: policies.Policy) -> dict[str, rows.Action]:
    return dict.fromkeys(policy.destinations, rows.Action.STEER) | dict.fromkeys(
        policy.excluded, rows.Action.EXCLUDE
    )


def chunks(members: Sequence[policies.Policy], merged: dict[str, rows.Route]) -> dict[int, rows.Routes]:
    """Chunk number → row. The chunk of a CIDR depends on the CIDR and the number of chunks alone, so that one
    route's change rewrites one chunk; the number is a power of two, so that it seldom changes.
    """
    names = tuple(sorted(policy.name for policy in members))
    count = 1
    while max(map(len, (split := _split(merged, count)).values()), default=0) > rows.ROUTES_PER_CHUNK:
        count *= 2
    return {
        chunk: rows.Routes(
            policies=names,
            routes=tuple(merged[cidr] for cidr in sorted(cidrs, key=_network_order)),
        )
        for chunk, cidrs in sorted(split.items())
    }


def _split(merged: dict[str, rows.Route], count: int) -> dict[int, list[str]]:
    split: dict[int, list[str]] = {}
    for cidr in merged:
        split.setdefault(digests.bucket(cidr, count), []).append(cidr)
    return split


@functools.lru_cache(maxsize=65536)
def _network_order(cidr: str) -> tuple[int, int, int]:
    """Remembered: many sets hold the same CIDR."""
    return addresses.network_order(cidr)
