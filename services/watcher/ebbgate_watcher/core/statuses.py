"""Verdict ─▶ the policy's status, as it is to be in the API. A part of the walk's way back.

Says again what the verdict says, and adds what Kubernetes' users expect: a condition Ready, since when each
condition is what it is, for which generation it was judged, and what `kubectl get` shows. It never judges.
What is equal stays equal, byte for byte, so that an unchanged verdict is no reason to write.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from ebbgate_bus.contracts import standing
from ebbgate_bus.contracts.reports import Condition, ServingGateway, Truth, Verdict

Status = dict[str, Any]
"""JSON: of `status` of a policy."""

READY = "Ready"
TYPES = frozenset({READY, "Conflict", *standing.NEEDED})
"""Conditions that are ours. Others' in the same list are left alone."""
MESSAGE_MAX = 8192
"""Characters of a message; the schema allows 32,768, and etcd 1.5 MB for the whole object."""


def status(verdict: Verdict, held: Mapping[str, Any], now: str) -> Status:
    """`held`: the status as the API has it, whoever wrote it. `now`: RFC 3339, whole seconds."""
    cells = standing.cells(verdict)
    before = {condition["type"]: condition for condition in conditions(held)}
    return {
        "observedGeneration": verdict.generation,
        "generationInForce": verdict.in_force,
        "pods": verdict.pods,
        "nodes": {"wanted": len(verdict.nodes_wanted), "programmed": len(verdict.nodes_programmed)},
        "gateways": [_gateway(each) for each in verdict.gateways],
        "summary": {
            "gateways": cells.gateways,
            "egressIPs": cells.egress_ips,
            "programmed": cells.programmed,
        },
        "conditions": [
            _condition(each, verdict.generation, before.get(each.type, {}), now)
            for each in (_ready(verdict), *verdict.conditions)
        ],
    }


def ours(held: Mapping[str, Any]) -> Status:
    """What of `held` is ours, so that it can be compared."""
    found = {key: held[key] for key in _FIELDS if key in held}
    if mine := [each for each in conditions(held) if each["type"] in TYPES]:
        found["conditions"] = sorted(mine, key=_type)
    return found


def same(wanted: Status, held: Mapping[str, Any]) -> bool:
    """Whether the API says already what is `wanted`. The order of conditions means nothing."""
    return wanted | {"conditions": sorted(wanted["conditions"], key=_type)} == ours(held)


def timeless(of: Mapping[str, Any]) -> Status:
    """`of` without the times of its conditions."""
    without = [{**each, "lastTransitionTime": ""} for each in conditions(of)]
    return {**of, "conditions": without}


def gist(of: Mapping[str, Any]) -> tuple[object, ...]:
    """What somebody may be waiting for: all but numbers and sentences."""
    conditions_ = sorted(
        (each["type"], str(each.get("status")), str(each.get("reason")), str(each.get("observedGeneration")))
        for each in conditions(of)
        if each["type"] in TYPES
    )
    summary = of.get("summary")
    shown = (summary.get("gateways"), summary.get("egressIPs")) if isinstance(summary, dict) else ()
    return (*conditions_, of.get("generationInForce"), shown)


def conditions(of: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those that have a type. `of` may be anybody's: Cilium's CRD has no schema for a status."""
    listed = of.get("conditions")
    found = listed if isinstance(listed, list) else []
    return [each for each in found if isinstance(each, dict) and isinstance(each.get("type"), str)]


def condition(of: Mapping[str, Any], type_: str) -> dict[str, Any]:
    """One of them, or an empty one."""
    return next((each for each in conditions(of) if each["type"] == type_), {})


def parse(raw: bytes) -> Status:
    """Of an object's JSON `status`; what isn't an object says nothing."""
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


_FIELDS = ("observedGeneration", "generationInForce", "pods", "nodes", "gateways", "summary")


def _type(condition_: Mapping[str, Any]) -> str:
    return str(condition_["type"])


def _ready(verdict: Verdict) -> Condition:
    """
    | the first needed condition that isn't True | Ready | reason |
    |---|---|---|
    | none | True | Ready |
    | one | as that one | its reason, and its message |
    """
    found = standing.hindrance(verdict)
    if found is None:
        return Condition(type=READY, status=Truth.TRUE, reason="Ready")
    return Condition(type=READY, status=found.status, reason=found.reason, message=found.message)


def _condition(said: Condition, generation: int, before: Mapping[str, Any], now: str) -> dict[str, Any]:
    stays = before.get("status") == said.status and before.get("lastTransitionTime")
    return {
        "type": said.type,
        "status": str(said.status),
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if stays else now,
        "reason": said.reason,
        "message": _short(said.message),
    }


def _short(message: str) -> str:
    return message if len(message) <= MESSAGE_MAX else f"{message[: MESSAGE_MAX - 1]}…"


def _gateway(of: ServingGateway) -> dict[str, Any]:
    return {
        "node": of.node,
        "gatewayIP": of.gateway_ip,
        "egressIPs": list(of.egress_ips),
        "pods": of.pods,
    }
