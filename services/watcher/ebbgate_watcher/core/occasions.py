"""Occasions: what of a changed status is worth an Event on the policy. A part of the walk's way back.

Works from two statuses, the one that was and the one that is, so that a restart in an unchanged world says
nothing: the one that was is in the API. Passing states (a gateway awaited, nodes that are about to apply)
are in the conditions and are no Events: each new pod would make some.

    condition       was → is                                      Event
    Accepted        → False, or another message or generation     Warning Rejected
                    False → True                                  Normal Accepted
    Conflict        → True, or another message                    Warning Conflict
                    True → False                                  Normal ConflictResolved
    GatewayFound    True → False                                  Warning GatewayLost
                    nothing → False                               Warning NoGateway
                    → True                                        Normal GatewayFound
                    other nodes                                   Normal GatewayChanged
    EgressIPReady   → False for a fault, or another message       Warning, the condition's reason
                    a fault → True                                Normal EgressIPReady
                    other addresses                               Normal EgressIPChanged
    Programmed      → NodeProblem, or another one                 Warning ProgrammingFailed
                    NodeProblem → True                            Normal ProgrammingRecovered
                    → True, the first time for its generation     Normal Programmed
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from ebbgate_watcher.core import statuses

_FAULTS = frozenset({"NoEgressIP", "FamilyWithoutEgressIP", "OutOfSlots"})
"""Reasons of EgressIPReady that don't pass by themselves."""


class Occasion(msgspec.Struct, frozen=True):
    """`once`: said already if an Event with the same words is there; else that one's count grows."""

    warning: bool
    reason: str
    note: str
    once: bool = False


def occasions(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Occasion]:
    """In the order in which a reader understands them."""
    both = (was, now)
    return [*_accepted(*both), *_conflict(*both), *_gateways(*both), *_egress_ips(*both), *_programmed(*both)]


def _accepted(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Occasion]:
    before, after = _both("Accepted", was, now)
    if after.get("status") == "False" and _differ(before, after, "status", "message", "observedGeneration"):
        return [Occasion(True, "Rejected", after["message"])]
    if after.get("status") == "True" and before.get("status") == "False":
        return [Occasion(False, "Accepted", f"generation {after.get('observedGeneration')} is good")]
    return []


def _conflict(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Occasion]:
    before, after = _both("Conflict", was, now)
    if after.get("status") == "True" and _differ(before, after, "status", "message"):
        return [Occasion(True, "Conflict", after["message"])]
    if after.get("status") == "False" and before.get("status") == "True":
        return [Occasion(False, "ConflictResolved", "no other policy takes its CIDRs any more")]
    return []


def _gateways(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Occasion]:
    before, after = _both("GatewayFound", was, now)
    old, new = _nodes(was), _nodes(now)
    match before.get("status"), after.get("status"):
        case ("False", "False") | (_, None):
            found = None
        case "True", "False":
            found = Occasion(True, "GatewayLost", f"{_listed(old)}: {after['message']}")
        case _, "False":
            found = Occasion(True, "NoGateway", after["message"])
        case "True", _:
            changed = Occasion(False, "GatewayChanged", f"from {_listed(old)} to {_listed(new)}")
            found = changed if old and old != new else None
        case _:
            found = Occasion(False, "GatewayFound", _listed(new))
    return [found] if found else []


def _egress_ips(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Occasion]:
    before, after = _both("EgressIPReady", was, now)
    faulty = before.get("reason") in _FAULTS
    if after.get("reason") in _FAULTS:
        differ = _differ(before, after, "reason", "message")
        return [Occasion(True, after["reason"], after["message"])] if differ else []
    if faulty:
        is_over = after.get("status") == "True"
        return [Occasion(False, "EgressIPReady", after["message"])] if is_over else []
    # Also while the gateway is awaited: that is when the addresses change.
    old, new = _addresses(was), _addresses(now)
    if old and new and old != new:
        return [Occasion(False, "EgressIPChanged", f"from {_listed(old)} to {_listed(new)}")]
    return []


def _programmed(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Occasion]:
    before, after = _both("Programmed", was, now)
    if after.get("reason") == "NodeProblem":
        differ = before.get("reason") != "NodeProblem" or _problems(before) != _problems(after)
        return [Occasion(True, "ProgrammingFailed", _problems(after))] if differ else []
    if after.get("status") != "True":
        return []
    if before.get("reason") == "NodeProblem":
        return [Occasion(False, "ProgrammingRecovered", after["message"])]
    if _differ(before, after, "status", "observedGeneration"):
        generation = after.get("observedGeneration")
        note = f"generation {generation} is in the kernel of every node that needs it"
        return [Occasion(False, "Programmed", note, once=True)]
    return []


def _both(
    type_: str, was: Mapping[str, Any], now: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    return statuses.condition(was, type_), statuses.condition(now, type_)


def _differ(before: Mapping[str, Any], after: Mapping[str, Any], *fields: str) -> bool:
    return any(before.get(field) != after.get(field) for field in fields)


def _problems(condition: Mapping[str, Any]) -> str:
    """Without the count of nodes before them, which changes with every pod."""
    return str(condition.get("message", "")).partition("; ")[2]


def _nodes(of: Mapping[str, Any]) -> list[str]:
    return sorted({str(each.get("node")) for each in _serving(of)})


def _addresses(of: Mapping[str, Any]) -> list[str]:
    listed = [each.get("egressIPs") for each in _serving(of)]
    return sorted({str(ip) for ips in listed if isinstance(ips, list) for ip in ips})


def _serving(of: Mapping[str, Any]) -> list[dict[str, Any]]:
    listed = of.get("gateways")
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"
