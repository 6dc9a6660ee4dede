"""Verdicts: what became of each policy, said so that its author knows what to do.

Leg: Applied ─▶ Verdict, the way back. Says what is, and never decides: rows don't depend on verdicts. One for
every policy that exists; conditions in Kubernetes' form, each with a reason in one word and a sentence.
"""

import bisect
from collections.abc import Iterable, Mapping, Sequence, Set

import msgspec

from ebbgate_bus.contracts import reports, rows
from ebbgate_bus.contracts.reports import Condition, Truth
from ebbgate_resolver.core import inventory, resolve
from ebbgate_resolver.core.people import explain_gateways
from ebbgate_resolver.core.rules import endpoints, gateways, policies, selectors

_FEW = 8
_NAMED_MAX = 5
"""Nodes or CIDRs listed by name in a message; the rest is a number."""


Buckets = Mapping[str, Mapping[int, int]]
"""Policy → bucket → how many of its endpoints' pods are in it."""


class Progress(msgspec.Struct, frozen=True):
    """`programmed`: policy → nodes that have its rows in their kernel. `troubled`: policy → nodes that say
    they couldn't do something for it; None: each has to be asked. `sorted_nodes`: as `matched.nodes`, for
    those who keep them so.
    """

    known: inventory.Inventory
    resolution: resolve.Resolution
    programmed: dict[str, set[str]]
    buckets: Buckets = {}
    troubled: Mapping[str, Set[str]] | None = None
    sorted_nodes: Mapping[str, Sequence[str]] = {}


def count_buckets(matched: endpoints.Matched) -> dict[str, dict[int, int]]:
    """`Progress.buckets` from nothing: each pod once, however many addresses it has."""
    pods = {row.pod: row for row in matched.endpoints.values()}
    counts: dict[str, dict[int, int]] = {}
    for row in pods.values():
        for policy in matched.sets[row.set]:
            of_policy = counts.setdefault(policy.name, {})
            of_policy[row.bucket] = of_policy.get(row.bucket, 0) + 1
    return counts


def verdict(name: str, progress: Progress) -> reports.Verdict:
    """`name`: of a policy that exists."""
    fact = progress.known.policies[name]
    resolution = progress.resolution
    kept = resolution.versions.kept.get(name)
    wanted = _nodes(name, progress)
    missing = sorted(set(wanted).difference(progress.programmed.get(name, ())))
    programmed = _without(wanted, missing)
    return reports.Verdict(
        policy=name,
        uid=fact.uid,
        generation=fact.generation,
        in_force=kept.generation if kept else 0,
        conditions=(
            _accepted(name, resolution),
            *(_of_version_in_force(name, progress, (wanted, tuple(missing))) if kept else ()),
        ),
        gateways=_serving(resolution.chosen.get(name, ()), progress.buckets.get(name, {})),
        pods=len(resolution.matched.pods.get(name, ())),
        nodes_wanted=wanted,
        nodes_programmed=programmed,
    )


def _nodes(name: str, progress: Progress) -> tuple[str, ...]:
    """Those where something of the policy is to be installed: its pods' and its gateways'. Sorted."""
    resolution = progress.resolution
    of_pods = resolution.matched.nodes.get(name, set())
    nodes = list(progress.sorted_nodes[name]) if name in progress.sorted_nodes else sorted(of_pods)
    for node in {gateway.node for gateway in resolution.chosen.get(name, ()) if gateway.egress} - of_pods:
        bisect.insort(nodes, node)
    return tuple(nodes)


def _without(wanted: tuple[str, ...], missing: list[str]) -> tuple[str, ...]:
    """Both are sorted. Mostly few are missing, and the others needn't be looked at."""
    if len(missing) > _FEW:
        without = set(missing)
        return tuple([node for node in wanted if node not in without])
    left = list(wanted)
    for node in missing:
        del left[bisect.bisect_left(left, node)]
    return tuple(left)


def _serving(
    found: tuple[gateways.Gateway, ...], counts: Mapping[int, int]
) -> tuple[reports.ServingGateway, ...]:
    pods = dict.fromkeys((gateway.key for gateway in found), 0)
    if found:
        shared = gateways.share(found) if len(found) > 1 else (found[0].key,) * rows.BUCKETS
        for bucket, count in counts.items():
            pods[shared[bucket]] += count
    return tuple(
        reports.ServingGateway(
            node=gateway.node,
            gateway_ip=gateway.gateway_ip,
            egress_ips=tuple(address.ip for _, address in sorted(gateway.egress.items())),
            pods=pods[gateway.key],
        )
        for gateway in found
    )


def _accepted(name: str, resolution: resolve.Resolution) -> Condition:
    rejected = resolution.versions.rejected.get(name)
    if rejected is None:
        return _condition("Accepted", True, "Valid")
    kept = resolution.versions.kept.get(name)
    which = f"the last good version (generation {kept.generation}) stays in force" if kept else ""
    outcome = which or "nothing of it is in force"
    return _condition("Accepted", False, "Rejected", f"{rejected.field}: {rejected.reason}; {outcome}")


def _of_version_in_force(
    name: str, progress: Progress, nodes: tuple[tuple[str, ...], tuple[str, ...]]
) -> tuple[Condition, ...]:
    """`nodes`: on which the policy's rows are wanted, and on which of these they aren't."""
    return (
        _gateway_found(name, progress.resolution),
        _egress_ip_ready(name, progress),
        _programmed(name, progress, *nodes),
        _conflict(name, progress.resolution),
    )


def _gateway_found(name: str, resolution: resolve.Resolution) -> Condition:
    found = resolution.chosen.get(name, ())
    if not found:
        return _condition(
            "GatewayFound",
            False,
            "NoMatchingNode",
            "no node with an internal IP address matches the gateway's nodeSelector; traffic is dropped",
        )
    return _condition("GatewayFound", True, "Found", _listed(sorted({gateway.node for gateway in found})))


def _egress_ip_ready(name: str, progress: Progress) -> Condition:
    """
    | missing | reason |
    |---|---|
    | an address on every gateway | NoEgressIP |
    | a free slot | OutOfSlots |
    | a gateway's answer | AwaitingGateway |
    | an address of one family on some gateway | FamilyWithoutEgressIP |
    """
    resolution = progress.resolution
    policy, found = resolution.versions.in_force[name], resolution.chosen.get(name, ())
    wishes = {(gateway.node, address.ip) for gateway in found for address in gateway.egress.values()}
    if not wishes:
        why = _shortages(policy, progress.known, found) or "no gateway has the egress IP that is asked for"
        return _not_ready("NoEgressIP", f"{why}; the traffic is dropped")
    if slotless := wishes & resolution.slotless:
        named = _listed(sorted(f"{ip} on {node}" for node, ip in slotless))
        return _not_ready("OutOfSlots", f"all slots are taken: {named}; the traffic is dropped")
    if awaiting := resolution.groups[name].awaiting:
        return _not_ready("AwaitingGateway", f"not yet in the kernel of {_listed(awaiting)}")
    lacking = [each for each in policy.families if not all(each in gateway.egress for gateway in found)]
    if lacking:
        why = _shortages(policy, progress.known, found) or f"no {lacking[0]} egress IP"
        return _not_ready("FamilyWithoutEgressIP", f"{why}; {lacking[0]} traffic to it is dropped")
    return _condition("EgressIPReady", True, "Ready", _listed(sorted({ip for _, ip in wishes})))


def _shortages(
    policy: policies.Policy, known: inventory.Inventory, found: tuple[gateways.Gateway, ...]
) -> str:
    """What the chosen nodes lack, as in `node2: it has no interface eth1; it has: eth0`."""
    lacking = {
        f"{gateway.node}: {why}"
        for gateway in found
        for choice in policy.gateways
        if selectors.matches(choice.nodes, known.nodes[gateway.node].labels)
        and (why := _shortage(choice, policy, gateway, known))
    }
    return _listed(sorted(lacking))


def _shortage(
    choice: policies.GatewayChoice,
    policy: policies.Policy,
    gateway: gateways.Gateway,
    known: inventory.Inventory,
) -> str:
    if twins := gateways.twins(gateway.node, known):
        return explain_gateways.twins(gateway.gateway_ip, twins)
    return explain_gateways.shortage(choice, known.network(gateway.node), policy.families)


def _not_ready(reason: str, message: str) -> Condition:
    return _condition("EgressIPReady", False, reason, message)


def _programmed(
    name: str, progress: Progress, wanted: tuple[str, ...], missing: tuple[str, ...]
) -> Condition:
    """
    | nodes | reason |
    |---|---|
    | one says that it can't | NodeProblem |
    | one hasn't applied the rows yet | Waiting |
    | all have | Applied |
    """
    count = f"{len(wanted) - len(missing)} of {len(wanted)} nodes"
    if problems := sorted(_problems(name, progress, wanted)):
        return _condition("Programmed", False, "NodeProblem", f"{count}; {_listed(problems)}")
    if missing:
        return _condition("Programmed", False, "Waiting", f"{count}; not yet applied by {_listed(missing)}")
    return _condition("Programmed", True, "Applied", count)


def _problems(name: str, progress: Progress, wanted: tuple[str, ...]) -> set[str]:
    """What nodes say they couldn't do for the policy."""
    asked: Iterable[str] = wanted
    if progress.troubled is not None:
        asked = [node for node in progress.troubled.get(name, ()) if node in wanted]
    reports_ = (report for node in asked if (report := progress.known.report(node)) and report.problems)
    return {
        f"{report.node}: {problem.reason}"
        for report in reports_
        for problem in report.problems
        if problem.policy == name
    }


def _conflict(name: str, resolution: resolve.Resolution) -> Condition:
    lost = [each for each in resolution.conflicts if each.loser == name]
    if not lost:
        return _condition("Conflict", False, "None")
    winners = sorted({f"{each.cidr} (served by {each.winner})" for each in lost})
    return _condition("Conflict", True, "OlderPolicyWins", f"for pods of both policies: {_listed(winners)}")


def _condition(type_: str, status: bool, reason: str, message: str = "") -> Condition:
    return Condition(type=type_, status=Truth.TRUE if status else Truth.FALSE, reason=reason, message=message)


def _listed(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(names[:_NAMED_MAX])
    rest = len(names) - _NAMED_MAX
    return f"{shown} and {rest} more" if rest > 0 else shown
