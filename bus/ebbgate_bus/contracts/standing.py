"""Standing: what people see of a Verdict first. One definition for the API's status and for `ebbgate
policies`, so that the two never say different things.
"""

from collections.abc import Sequence

import msgspec

from ebbgate_bus.contracts.reports import Condition, Truth, Verdict

NEEDED = ("Accepted", "GatewayFound", "EgressIPReady", "Programmed")
"""In this order: the first that isn't True is why a policy isn't ready."""
NAMED_MAX = 3
"""Gateways and addresses in a cell of a table; more are counted."""


class Cells(msgspec.Struct, frozen=True):
    """Of a table's line."""

    gateways: str
    egress_ips: str
    programmed: str


def hindrance(verdict: Verdict) -> Condition | None:
    """The first condition that keeps a policy from being ready, or None."""
    by_type = {condition.type: condition for condition in verdict.conditions}
    return next(
        (by_type[each] for each in NEEDED if each in by_type and by_type[each].status != Truth.TRUE), None
    )


def cells(verdict: Verdict, most: int = NAMED_MAX) -> Cells:
    """`most`: so many are named in a cell."""
    return Cells(
        gateways=_few([gateway.node for gateway in verdict.gateways], most),
        egress_ips=_few(sorted({ip for gateway in verdict.gateways for ip in gateway.egress_ips}), most),
        programmed=f"{len(verdict.nodes_programmed)}/{len(verdict.nodes_wanted)}",
    )


def _few(texts: Sequence[str], most: int) -> str:
    rest = len(texts) - most
    return ",".join(texts[:most]) + (f",+{rest}" if rest > 0 else "") or "none"
