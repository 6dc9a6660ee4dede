"""Endpoints: pods as policies see them, and the set (combination of policies) that each belongs to.

Leg: a part of Inventory → Rows. A pod counts if it has an address, runs on a node that exists, isn't on the
host's network (its packets have the node's address) and hasn't ended (its address may be another's by now).
Who has an address is decided among all pods that count: one that no policy chooses may have it too, and must
not be steered by the policies of the pod that had it before.
"""

import re
from collections.abc import Iterator, Mapping

import msgspec

from ebbgate_bus.contracts import digests, facts, rows, subjects
from ebbgate_resolver.core import addresses, answers, inventory
from ebbgate_resolver.core.rules import policies, routes, selectors

NAMESPACE_OF_POD = "io.kubernetes.pod.namespace"
"""A label that every pod has for a podSelector, and nowhere else (Cilium's)."""
NAME_OF_NAMESPACE = "kubernetes.io/metadata.name"
"""A label that the API server gives to every namespace; manifests lack it."""
_ENDED = ("Succeeded", "Failed")


class Matched(msgspec.Struct, frozen=True):
    """`endpoints`: subject → row. `sets`: id → its policies. `pods`, `nodes`: of a policy's endpoints; pods
    without an address of their own aren't among them.
    """

    endpoints: dict[str, rows.Endpoint] = {}
    sets: dict[str, tuple[policies.Policy, ...]] = {}
    pods: dict[str, set[inventory.PodKey]] = {}
    nodes: dict[str, set[str]] = {}
    notes: list[answers.Note] = []


class _Candidate(msgspec.Struct, frozen=True):
    """`members`: the policies that choose the pod."""

    pod: facts.Pod
    members: tuple[policies.Policy, ...]


def match(known: inventory.Inventory, in_force: Mapping[str, policies.Policy]) -> Matched:
    matched = Matched()
    owners: dict[str, _Candidate] = {}
    for candidate in _candidates(known, in_force):
        if reason := obstacle(candidate.pod):
            matched.notes.extend(ignored(candidate.pod, reason) if candidate.members else ())
        else:
            _add(matched, candidate, owners)
    return matched


def _candidates(known: inventory.Inventory, in_force: Mapping[str, policies.Policy]) -> Iterator[_Candidate]:
    """The newest first. Pods of one workload have the same labels: asked once, a rollout of thousands costs
    one evaluation.
    """
    able = [in_force[name] for name in sorted(in_force) if in_force[name].destinations]
    by_nodes = any(rule.nodes.requirements for policy in able for rule in policy.rules)
    asked: dict[object, tuple[policies.Policy, ...]] = {}
    for pod in sorted(known.pods.values(), key=precedence):
        if not counts(pod, known):
            continue
        key = (pod.namespace, frozenset(pod.labels.items()), pod.node if by_nodes else "")
        if key not in asked:
            asked[key] = tuple(policy for policy in able if chooses(policy, pod, known))
        yield _Candidate(pod, asked[key])


def counts(pod: facts.Pod, known: inventory.Inventory) -> bool:
    return pod.node in known.nodes and pod.phase not in _ENDED


def obstacle(pod: facts.Pod) -> str:
    """Why a pod that a policy chooses can't be an endpoint, or empty."""
    if pod.host_network:
        return "it is on the host's network, its packets have the node's address"
    return "" if pod.ips else "it has no IP address"


def ignored(pod: facts.Pod, reason: str) -> list[answers.Note]:
    """A pod that is just starting has no address yet, and that is nothing to talk about."""
    if pod.phase == "Pending":
        return []
    return [answers.note("pod.ignored", pod=f"{pod.namespace}/{pod.name}", reason=reason)]


def precedence(pod: facts.Pod) -> tuple[int, bool, str, str, str]:
    """Of two pods with one address on a node the newer has it: the address was given again. Where the ages
    don't tell, the running one, then the smaller uid. On two nodes each has it: a policy that lets go of an
    address too early lets packets leave unsteered.
    """
    created = int("".join(filter(str.isdecimal, pod.created))[:14] or 0)
    return (-created, pod.phase != "Running", pod.uid, pod.namespace, pod.name)


def chooses(policy: policies.Policy, pod: facts.Pod, known: inventory.Inventory) -> bool:
    pod_labels = pod.labels | {NAMESPACE_OF_POD: pod.namespace}
    of_namespace = namespace_labels(pod.namespace, known)
    node_labels = known.nodes[pod.node].labels
    return any(
        selectors.matches(rule.pods, pod_labels)
        and selectors.matches(rule.namespaces, of_namespace)
        and selectors.matches(rule.nodes, node_labels)
        for rule in policy.rules
    )


def namespace_labels(name: str, known: inventory.Inventory) -> dict[str, str]:
    namespace = known.namespaces.get(name)
    return (namespace.labels if namespace else {}) | {NAME_OF_NAMESPACE: name}


def _add(matched: Matched, candidate: _Candidate, owners: dict[str, _Candidate]) -> None:
    """Who comes first has the address, chosen or not. It is said where a policy is concerned."""
    pod, members = candidate.pod, candidate.members
    own = {}
    for ip in filter(is_address, pod.ips):
        subject = subjects.endpoint(pod.node, ip)
        owner = owners.setdefault(subject, candidate)
        if owner is candidate:
            own[subject] = ip
        elif members or owner.members:
            matched.notes.append(shared(ip, owner.pod, pod))
    if members:
        set_id = routes.set_id(members)
        matched.sets[set_id] = members
        matched.endpoints.update({subject: row(pod, ip, set_id) for subject, ip in own.items()})
    for policy in members if own else ():
        matched.pods.setdefault(policy.name, set()).add((pod.namespace, pod.name))
        matched.nodes.setdefault(policy.name, set()).add(pod.node)


_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}", re.ASCII)


def is_address(text: str) -> bool:
    """The usual form is known at sight: of 150,000 pods hardly two have the same address."""
    return bool(_IPV4.fullmatch(text)) or addresses.address(text) is not None


def row(pod: facts.Pod, ip: str, set_id: str) -> rows.Endpoint:
    bucket = digests.bucket(pod.uid, rows.BUCKETS)
    return rows.Endpoint(ip=ip, set=set_id, bucket=bucket, pod=f"{pod.namespace}/{pod.name}")


def shared(ip: str, owner: facts.Pod, other: facts.Pod) -> answers.Note:
    return answers.note(
        "pod_ip.shared",
        ip=ip,
        node=owner.node,
        owner=f"{owner.namespace}/{owner.name}",
        ignored=f"{other.namespace}/{other.name}",
    )
