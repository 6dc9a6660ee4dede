"""Why a policy chooses a pod, or doesn't: selector by selector, label by label.

Leg: a part of `explain`. Evaluates selectors by itself and never asks `selectors.matches` or `endpoints`: who
explains with the code that decided can't contradict it, and `explain` is the oracle that may have to.
"""

from collections.abc import Iterator, Mapping

from ebbgate_bus.contracts import facts
from ebbgate_resolver.core import inventory
from ebbgate_resolver.core.people.explanation import Why
from ebbgate_resolver.core.rules import policies, selectors
from ebbgate_resolver.core.rules.selectors import Operator

Labels = Mapping[str, str]


def choosing(policy: policies.Policy, pod: facts.Pod, known: inventory.Inventory) -> tuple[int, ...]:
    """Indexes of the selectors that choose the pod."""
    return tuple(i for i, rule in enumerate(policy.rules) if not any(_unmet(rule, pod, known)))


def why_not(policy: policies.Policy, pod: facts.Pod, known: inventory.Inventory) -> tuple[Why, ...]:
    """One reason for each selector, with what is wrong in it; empty if one chooses the pod."""
    if not policy.rules:
        return (Why("selectors is empty, and so chooses no pod"),)
    unmet = [tuple(_unmet(rule, pod, known)) for rule in policy.rules]
    if not all(unmet):
        return ()
    return tuple(Why(f"selectors[{i}]", each) for i, each in enumerate(unmet))


def _unmet(rule: policies.Rule, pod: facts.Pod, known: inventory.Inventory) -> Iterator[Why]:
    for part, selector, labels, whose in (
        ("podSelector", rule.pods, _pod_labels(pod), "the pod's"),
        ("namespaceSelector", rule.namespaces, _namespace_labels(pod, known), f"namespace {pod.namespace}'s"),
        ("nodeSelector", rule.nodes, _node_labels(pod, known), f"node {pod.node}'s"),
    ):
        for requirement in selector.requirements:
            if text := unmet(requirement, labels):
                yield Why(f"{part}: {whose} {text}")


def _pod_labels(pod: facts.Pod) -> Labels:
    return {**pod.labels, "io.kubernetes.pod.namespace": pod.namespace}


def _namespace_labels(pod: facts.Pod, known: inventory.Inventory) -> Labels:
    namespace = known.namespaces.get(pod.namespace)
    return {**(namespace.labels if namespace else {}), "kubernetes.io/metadata.name": pod.namespace}


def _node_labels(pod: facts.Pod, known: inventory.Inventory) -> Labels:
    node = known.nodes.get(pod.node)
    return node.labels if node else {}


def unmet(requirement: selectors.Requirement, labels: Labels) -> str:
    """What is wrong, as in `label class is "x", wanted "mediabot"`; empty if the requirement holds."""
    key, listed = requirement.key, ", ".join(f'"{value}"' for value in sorted(requirement.values))
    there = key in labels
    found = f'label {key} is "{labels[key]}"' if there else f"label {key} is absent"
    if requirement.operator is Operator.EXISTS:
        return "" if there else f"{found}, and must be there"
    if requirement.operator is Operator.DOES_NOT_EXIST:
        return f"{found}, and must be absent" if there else ""
    is_listed = there and labels[key] in requirement.values
    if requirement.operator is Operator.IN:
        wanted = listed if len(requirement.values) == 1 else f"one of {listed}"
        return "" if is_listed else f"{found}, wanted {wanted}"
    return f"{found}, wanted any other than {listed}" if is_listed else ""


def unmet_labels(selector: selectors.Selector, labels: Labels) -> tuple[str, ...]:
    return tuple(text for each in selector.requirements if (text := unmet(each, labels)))
