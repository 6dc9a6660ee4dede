"""What became of each policy, on paper: verdicts as a table, one of them in full. Pure."""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from ebbgate_bus.contracts import codec, facts, reports, standing
from ebbgate_bus.contracts.reports import Condition, Truth, Verdict

HEADER = ("NAME", "READY", "GATEWAYS", "EGRESS IPS", "PODS", "PROGRAMMED", "REASON")
WIDE = ("GENERATION", "IN FORCE", "NOT PROGRAMMED")
_NO_VERDICT = Condition(
    type="Accepted", status=Truth.UNKNOWN, reason="NoVerdict", message="no resolver has judged it yet"
)


def verdicts(payloads: Mapping[str, bytes]) -> list[Verdict]:
    """By name, of facts and verdicts (subject → payload). A policy without verdict gets one that says so, and
    a verdict whose policy has another uid by now isn't its own.
    """
    judged: dict[str, Verdict] = {}
    known: dict[str, facts.Policy] = {}
    for message in _readable(payloads):
        if isinstance(message, Verdict):
            judged[message.policy] = message
        elif isinstance(message, facts.Policy):
            known[message.name] = message
    return [
        _of_policy(known.get(name), judged.get(name), name) for name in sorted(known.keys() | judged.keys())
    ]


def _of_policy(fact: facts.Policy | None, verdict: Verdict | None, name: str) -> Verdict:
    if verdict is not None and (fact is None or fact.uid == verdict.uid):
        return verdict
    uid, generation = (fact.uid, fact.generation) if fact else ("", 0)
    return Verdict(policy=name, uid=uid, generation=generation, conditions=(_NO_VERDICT,))


def _readable(payloads: Mapping[str, bytes]) -> Iterator[object]:
    for subject, payload in payloads.items():
        try:
            yield codec.decode(subject, payload)
        except codec.Undecodable:
            continue  # an unreadable verdict is as good as none, and the table says that


def wide_cells(verdict: Verdict) -> tuple[str, ...]:
    """A line under HEADER and WIDE, with all gateways and egress IPs."""
    waiting = sorted(set(verdict.nodes_wanted) - set(verdict.nodes_programmed))
    last = (str(verdict.generation), str(verdict.in_force or "none"), ",".join(waiting) or "none")
    return cells(verdict, most=len(verdict.gateways) * 2 + 1) + last


def cells(verdict: Verdict, most: int = standing.NAMED_MAX) -> tuple[str, ...]:
    """A line under HEADER; of gateways and addresses `most` are named."""
    found, cells = standing.hindrance(verdict), standing.cells(verdict, most)
    return (
        verdict.policy,
        "True" if found is None else "Unknown" if found.status == Truth.UNKNOWN else "False",
        cells.gateways,
        cells.egress_ips,
        str(verdict.pods),
        cells.programmed,
        _reason(verdict, found),
    )


def _reason(verdict: Verdict, found: Condition | None) -> str:
    if found is not None:
        return f"{found.reason}: {found.message}"
    conflict = next((each for each in verdict.conditions if each.type == "Conflict"), None)
    lost = conflict is not None and conflict.status == Truth.TRUE
    return f"{conflict.reason}: {conflict.message}" if conflict and lost else "none"


def text(verdict: Verdict) -> str:
    """One policy in full."""
    return "\n".join(_lines(verdict))


def _lines(verdict: Verdict) -> Iterator[str]:
    found = standing.hindrance(verdict)
    yield f"policy {verdict.policy}: " + ("ready" if found is None else f"not ready, {found.reason}")
    yield f"  generation {verdict.generation} judged, " + (
        f"generation {verdict.in_force} in force"
        if verdict.conditions and _in_force(verdict)
        else "none in force"
    )
    yield "  conditions"
    for each in verdict.conditions:
        yield f"    {each.type}={each.status} ({each.reason})" + (f": {each.message}" if each.message else "")
    yield f"  pods: {verdict.pods}"
    yield from _gateway_lines(verdict.gateways, verdict.pods)
    missing = sorted(set(verdict.nodes_wanted) - set(verdict.nodes_programmed))
    yield f"  nodes programmed: {len(verdict.nodes_programmed)} of {len(verdict.nodes_wanted)}"
    if missing:
        yield f"    missing: {', '.join(missing)}"


def _in_force(verdict: Verdict) -> bool:
    """Conditions beyond Accepted are those of a version in force."""
    return any(each.type == "GatewayFound" for each in verdict.conditions)


def _gateway_lines(gateways: Iterable[reports.ServingGateway], pods: int) -> Iterator[str]:
    yield "  gateways" if gateways else "  gateways: none"
    for each in gateways:
        ips = ", ".join(each.egress_ips) or "no egress IP, its pods' traffic is dropped"
        share = f"{each.pods} of {pods} pods"
        yield f"    {each.node} ({each.gateway_ip}): {ips}; {share}"


def as_json(found: Verdict | list[Verdict]) -> str:
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode()
