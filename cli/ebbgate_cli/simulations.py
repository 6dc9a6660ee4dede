"""A simulation on paper: what changes for pods as a table, then what changes for policies. Pure."""

import msgspec

from ebbgate_cli import columns
from ebbgate_resolver.core.people import ways
from ebbgate_resolver.core.people.explanation import Outcome
from ebbgate_resolver.core.simulation import Simulation

HEADER = ("POD", "SOURCE", "DESTINATION", "BEFORE", "AFTER")
NOTHING = "nothing changes"


def text(of: Simulation) -> str:
    if of.is_empty:
        return NOTHING
    parts = []
    if of.changes:
        lines = [
            (each.pod, each.source, each.destination, way_text(each.before), way_text(each.after))
            for each in of.changes
        ]
        parts.append(columns.lay_out(HEADER, lines))
    pods = len({each.pod for each in of.changes})
    parts.append("No pod changes its egress." if not pods else f"Pods whose egress changes: {pods}.")
    parts += [f"policy {each.policy}: {each.before} → {each.after}" for each in of.policies]
    parts += [f"{each} becomes cluster-internal: never steered" for each in of.never]
    parts += [f"{each} is cluster-internal no longer" for each in of.no_longer_never]
    return "\n".join(parts)


def way_text(way: ways.Way) -> str:
    by = f" (policy {way.policy})" if way.policy else ""
    match way.outcome:
        case Outcome.STEERED:
            return f"{way.egress_ip} by {way.gateway}{by}"
        case Outcome.DROPPED:
            return f"dropped{by}"
        case Outcome.EXCLUDED:
            return f"excluded{by}"
        case _:
            return "not steered"


def as_json(of: Simulation) -> str:
    return msgspec.json.format(msgspec.json.encode(of), indent=2).decode()
