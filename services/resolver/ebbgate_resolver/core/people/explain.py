"""explain(view, packet) → Explanation: what happens to one packet, by brute force, and why.

Leg: beside Inventory ─resolve▶ Rows, and written without it: no sets, no route tables, no rows are made here.
Every policy is asked, every CIDR compared, every node looked at. That is slow and needs no cleverness, which
makes it the oracle that `resolve` is held against, as well as the answer for people. What was there before is
asked for three things only, as in `resolve`: versions in force, slots and standing paths.
"""

from collections.abc import Iterator

import msgspec

from ebbgate_bus.contracts import digests, facts, rows, subjects
from ebbgate_resolver.core import addresses, inventory
from ebbgate_resolver.core.people import explain_gateways, explain_pods, explain_policies
from ebbgate_resolver.core.people.explanation import Answer, Explanation, Outcome, Result, Why
from ebbgate_resolver.core.plan import held
from ebbgate_resolver.core.rules import gateways, policies, surroundings, versions

NEVER = {
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local, where clouds have their metadata service",
    "224.0.0.0/3": "multicast and reserved",
    "::1/128": "loopback",
    "fe80::/10": "link-local",
    "ff00::/8": "multicast",
}
"""Destinations that no node steers, whatever a policy says; the programmer's rules name the same."""


class Packet(msgspec.Struct, frozen=True):
    """`source`: one of the pod's addresses; empty: its first of the destination's family."""

    pod: facts.Pod
    destination: addresses.Address
    source: str = ""


class View(msgspec.Struct, frozen=True):
    """What packets are explained by; made once for many of them."""

    known: inventory.Inventory
    held: held.Held
    versions: versions.Versions
    cluster: tuple[tuple[addresses.Network, str], ...]


class _Claim(msgspec.Struct, frozen=True):
    """A policy that chooses the pod, with its most specific CIDR for the destination."""

    policy: policies.Policy
    network: addresses.Network
    excludes: bool


def view(known: inventory.Inventory, held_: held.Held, setting: tuple[str, ...] = ()) -> View:
    """`setting`: CIDRs that are never steered, besides those found."""
    cluster = surroundings.clusters(known, setting).values()
    found = ((addresses.network(row.cidr), row.source) for row in cluster)
    return View(
        known=known,
        held=held_,
        versions=versions.judge(known, held_.policies),
        cluster=tuple((network, source) for network, source in found if network),
    )


def explain(seen: View, packet: Packet) -> Explanation:
    """
    | asked in this order | outcome |
    |---|---|
    | loopback, link-local, multicast | NEVER |
    | the pod has no address of the family, or can't be an endpoint | NOT_MATCHED |
    | the cluster's own | CLUSTER |
    | no policy chooses the pod and covers the destination | NOT_MATCHED |
    | the deciding CIDR is excluded | EXCLUDED |
    | no gateway, egress IP, slot or open path | DROPPED |
    | else | STEERED |
    """
    owner = _owner(seen, packet)
    claims = [] if owner.obstacle else _claims(seen, owner.pod, packet.destination)
    winner = _winner(claims)
    facts_ = Explanation(
        outcome=Outcome.NOT_MATCHED,
        reason=owner.obstacle or f"no policy chooses {_whom(owner, packet)} and covers the destination",
        pod=f"{packet.pod.namespace}/{packet.pod.name}",
        node=packet.pod.node,
        source=owner.ip,
        destination=str(packet.destination),
        why=owner.why,
        policies=tuple(_answers(seen, owner.pod, claims, winner)),
    )
    if reason := _never(packet.destination):
        return _beside_policies(facts_, Outcome.NEVER, reason)
    if not owner.obstacle and (reason := _in_cluster(seen, packet.destination)):
        return _beside_policies(facts_, Outcome.CLUSTER, reason)
    return facts_ if winner is None else _decided(seen, owner.pod, winner, facts_)


def _whom(owner: explain_pods.Owner, packet: Packet) -> str:
    is_own = owner.pod == packet.pod
    return "the pod" if is_own else f"{owner.pod.namespace}/{owner.pod.name}, which has {owner.ip} now,"


def _beside_policies(known: Explanation, outcome: Outcome, reason: str) -> Explanation:
    answers = (
        msgspec.structs.replace(each, result=Result.WOULD_DECIDE) if each.result is Result.DECIDES else each
        for each in known.policies
    )
    return msgspec.structs.replace(known, outcome=outcome, reason=reason, policies=tuple(answers))


def _owner(seen: View, packet: Packet) -> explain_pods.Owner:
    family = addresses.family(packet.destination)
    source = packet.source or explain_pods.source_of(packet.pod, family)
    if not source and not explain_pods.obstacle(packet.pod, seen.known):
        name = {"ipv4": "IPv4", "ipv6": "IPv6"}[family]
        return explain_pods.Owner(packet.pod, obstacle=f"the pod has no {name} address")
    return explain_pods.owner(packet.pod, source, seen.known)


def _never(destination: addresses.Address) -> str:
    for cidr, what in NEVER.items():
        network = addresses.network(cidr)
        if network and destination in network:
            return f"{destination} is in {cidr} ({what})"
    return ""


def _in_cluster(seen: View, destination: addresses.Address) -> str:
    inside = [(network, source) for network, source in seen.cluster if destination in network]
    if not inside:
        return ""
    network, source = max(inside, key=lambda each: each[0].prefixlen)
    return f"{destination} is in {network} ({source}), which is never steered"


def _claims(seen: View, pod: facts.Pod, destination: addresses.Address) -> list[_Claim]:
    found = []
    for policy in seen.versions.in_force.values():
        if not explain_policies.choosing(policy, pod, seen.known):
            continue
        claim = _claim(policy, destination)
        if claim is not None:
            found.append(claim)
    return found


def _claim(policy: policies.Policy, destination: addresses.Address) -> _Claim | None:
    covering = [
        _Claim(policy, network, excludes)
        for excludes, cidrs in ((False, policy.destinations), (True, policy.excluded))
        for cidr in cidrs
        if (network := addresses.network(cidr)) and destination in network
    ]
    # At the same CIDR the exclusion wins, within one policy.
    return max(covering, key=lambda each: (each.network.prefixlen, each.excludes), default=None)


def _winner(claims: list[_Claim]) -> _Claim | None:
    """The most specific; of the same CIDR the older policy's, then the smaller name's."""
    return min(claims, key=lambda each: (-each.network.prefixlen, each.policy.seniority), default=None)


def _answers(seen: View, pod: facts.Pod, claims: list[_Claim], winner: _Claim | None) -> Iterator[Answer]:
    claimed = {claim.policy.name: claim for claim in claims}
    for name in sorted(seen.versions.in_force.keys() | seen.versions.rejected.keys()):
        policy = seen.versions.in_force.get(name)
        notes = _version_notes(seen, name)
        if policy is None:
            yield Answer(name, Result.REJECTED, why=notes)
        elif name in claimed and winner is not None:
            chosen = " and ".join(
                f"selectors[{i}]" for i in explain_policies.choosing(policy, pod, seen.known)
            )
            yield _of_claim(claimed[name], winner, (*notes, Why(f"the pod is chosen by {chosen}")))
        elif reasons := explain_policies.why_not(policy, pod, seen.known):
            yield Answer(name, Result.NOT_CHOSEN, why=(*notes, *reasons))
        else:
            yield Answer(name, Result.NOT_COVERED, why=(*notes, _destinations(policy)))


def _version_notes(seen: View, name: str) -> tuple[Why, ...]:
    rejected, kept = seen.versions.rejected.get(name), seen.versions.kept.get(name)
    if rejected is None:
        return ()
    fact = seen.known.policies.get(name)
    which = f"generation {fact.generation}" if fact and fact.generation else "its latest version"
    stays = f"generation {kept.generation} stays in force" if kept else "nothing of it is in force"
    return (Why(f"{which} is rejected: {rejected.field}: {rejected.reason}; {stays}"),)


def _destinations(policy: policies.Policy) -> Why:
    if not policy.destinations:
        return Why("destinationCIDRs is empty")
    shown = ", ".join(policy.destinations[:8])
    rest = len(policy.destinations) - 8
    return Why(f"it covers {shown}" + (f" and {rest} more" if rest > 0 else ""))


def _of_claim(claim: _Claim, winner: _Claim, notes: tuple[Why, ...]) -> Answer:
    name, cidr, by = claim.policy.name, str(claim.network), winner.policy.name
    kind = "excludes" if claim.excludes else "steers"
    if claim is winner:
        return Answer(name, Result.DECIDES, cidr, (*notes, Why(f"it {kind} {cidr}")))
    if claim.network == winner.network:
        text = f"it {kind} {cidr}, and so does {by}, {_senior(winner.policy, claim.policy)}"
        return Answer(name, Result.CONFLICT, cidr, (*notes, Why(text)))
    text = f"it {kind} {cidr}; {winner.network} of {by} is more specific"
    return Answer(name, Result.LESS_SPECIFIC, cidr, (*notes, Why(text)))


def _senior(winner: policies.Policy, loser: policies.Policy) -> str:
    if winner.created == loser.created:
        return "which has the smaller name at the same age"
    return f"which is older ({winner.created}, against {loser.created or 'an unknown age'})"


def _decided(seen: View, pod: facts.Pod, claim: _Claim, known: Explanation) -> Explanation:
    policy, cidr = claim.policy, str(claim.network)
    known = msgspec.structs.replace(known, policy=policy.name, cidr=cidr)
    if claim.excludes:
        reason = f"policy {policy.name} excludes {cidr}: it leaves as if there were no policy"
        return msgspec.structs.replace(known, outcome=Outcome.EXCLUDED, reason=reason)
    found = explain_gateways.find(policy, seen.known)
    why = (*known.why, *found.why, *_behind(seen, (known.node,)))
    known = msgspec.structs.replace(known, outcome=Outcome.DROPPED, why=why)
    gateway = _of_bucket(found.gateways, digests.bucket(pod.uid, rows.BUCKETS))
    if gateway is None:
        reason = f"policy {policy.name} steers {cidr}, and no node can be its gateway"
        return msgspec.structs.replace(known, reason=reason)
    known = msgspec.structs.replace(known, gateway=gateway.node, gateway_ip=gateway.gateway_ip)
    egress = gateway.egress.get(addresses.family(claim.network))
    if egress is None:
        family = {4: "IPv4", 6: "IPv6"}[claim.network.version]
        reason = f"policy {policy.name} steers {cidr}, and {gateway.node} has no {family} egress IP for it"
        return msgspec.structs.replace(known, reason=reason)
    return _on_its_way(seen, pod, (policy, gateway, egress), known)


def _behind(seen: View, nodes: tuple[str, ...]) -> Iterator[Why]:
    """Nodes whose kernel may not hold yet what is explained here."""
    for node in nodes:
        report, commits = seen.known.report(node), seen.held.commits
        latest = [commits.get(scope) for scope in (subjects.ALL_SCOPE, subjects.node_scope(node))]
        wanted = tuple(commit.revision if commit else 0 for commit in latest)
        if any(wanted) and report is None:
            yield Why(f"{node} has no programmer that ever reported: nothing is in its kernel")
        elif report and (report.all_revision < wanted[0] or report.node_revision < wanted[1]):
            reached = f"{report.all_revision}/{report.node_revision} of {wanted[0]}/{wanted[1]}"
            yield Why(f"{node} has not applied the latest revision yet ({reached})")


def _of_bucket(found: tuple[gateways.Gateway, ...], bucket: int) -> gateways.Gateway | None:
    key = gateways.share(found)[bucket]
    return next((each for each in found if each.key == key), None)


def _on_its_way(
    seen: View,
    pod: facts.Pod,
    chosen: tuple[policies.Policy, gateways.Gateway, gateways.EgressAddress],
    known: Explanation,
) -> Explanation:
    """Gateway and egress IP are chosen: has it a slot, and does the gateway's kernel know it?"""
    policy, gateway, egress = chosen
    numbers = [
        n for (node, n), row in seen.held.egress.items() if (node, row.egress_ip) == (gateway.node, egress.ip)
    ]
    slot = min(numbers, default=rows.NO_SLOT)
    report = seen.known.report(gateway.node)
    if slot and report and report.slots.get(str(slot)) == egress.ip:
        return _steered(known, (gateway.node, gateway.gateway_ip), slot, egress)
    awaited = (
        f"{gateway.node} has not said yet that {egress.ip} is in its kernel"
        if slot
        else _without_slot(seen, gateway.node, egress.ip)
    )
    old = _standing(seen, pod, policy, known.destination) if slot else None
    if old is None:
        return msgspec.structs.replace(
            known, reason=awaited, slot=slot, egress_ip=egress.ip, interface=egress.interface
        )
    row = seen.held.egress[old.node, old.slot]
    kept = Why(f"{awaited}; until then the old path stays")
    known = msgspec.structs.replace(known, why=(kept, *known.why))
    address = gateways.EgressAddress(row.egress_ip, row.interface)
    return _steered(known, (old.node, old.gateway_ip), old.slot, address)


def _without_slot(seen: View, node: str, ip: str) -> str:
    taken = sum(place[0] == node for place in seen.held.egress)
    if taken > rows.SLOT_MAX - rows.SLOT_MIN:
        return f"all {taken} slots of {node} are taken, {ip} has none"
    return f"{ip} has no slot on {node} yet: the resolver has not written its rows"


def _steered(
    known: Explanation, to: tuple[str, str], slot: int, egress: gateways.EgressAddress
) -> Explanation:
    return msgspec.structs.replace(
        known,
        outcome=Outcome.STEERED,
        reason=f"it leaves by {to[0]} as {egress.ip}",
        gateway=to[0],
        gateway_ip=to[1],
        slot=slot,
        egress_ip=egress.ip,
        interface=egress.interface,
    )


def _standing(seen: View, pod: facts.Pod, policy: policies.Policy, destination: str) -> rows.Path | None:
    """The path that PLAN has for the pod, if its gateway still has what it names."""
    group = seen.held.groups.get(policy.uid)
    paths = (group.ipv6 if ":" in destination else group.ipv4) if group else None
    bucket = digests.bucket(pod.uid, rows.BUCKETS)
    if paths is None or not 0 <= paths.buckets[bucket] < len(paths.paths):
        return None
    old = paths.paths[paths.buckets[bucket]]
    row, node = seen.held.egress.get((old.node, old.slot)), seen.known.nodes.get(old.node)
    network = seen.known.networks.get(old.node)
    if row is None or node is None or network is None:
        return None
    own = {addresses.interface_address(text) for each in network.interfaces for text in each.addresses}
    gateway_ip = next(iter(sorted(node.internal_ips, key=lambda ip: ":" in ip)), "")
    alone = [name for name, each in seen.known.nodes.items() if gateway_ip in each.internal_ips] == [old.node]
    stands = addresses.address(row.egress_ip) in own and alone
    return rows.Path(old.node, gateway_ip, old.slot) if stands else None
