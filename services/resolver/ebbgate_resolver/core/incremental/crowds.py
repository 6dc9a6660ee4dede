"""Crowds: pods of one namespace with the same labels, which every policy chooses together or not at all.

Leg: a part of Inventory → Rows. A rollout of thousands of pods is one crowd, asked once; a policy's event
asks the crowds that one of its requirements leaves over, a pod's event none or, for labels never seen, one.
Nodes are left open here: where a rule narrows by node, the crowd knows the condition and the pod has it.
"""

from collections.abc import Iterable, Mapping

import msgspec

from ebbgate_bus.contracts import facts
from ebbgate_resolver.core import inventory
from ebbgate_resolver.core.incremental import labels
from ebbgate_resolver.core.rules import endpoints, policies, selectors

Condition = tuple[selectors.Selector, ...]
"""One of these must match the pod's node; empty: any node will do."""
_SHARED_MAX = 65536
"""Tuples of names kept to be shared; then sharing begins anew."""


class Crowd(msgspec.Struct, eq=False):
    """`always`: names of policies that choose these pods on every node; `by_node`: on some."""

    namespace: str
    labels: dict[str, str]
    pods: set[inventory.PodKey] = set()
    always: tuple[str, ...] = ()
    by_node: tuple[tuple[str, Condition], ...] = ()

    def label_view(self) -> dict[str, str]:
        """As podSelectors see them."""
        return self.labels | {endpoints.NAMESPACE_OF_POD: self.namespace}


class Crowds:
    def __init__(self, known: inventory.Inventory) -> None:
        self._known = known
        self._policies: dict[str, policies.Policy] = {}
        self._rules = labels.Rules()
        self._of_pod: dict[inventory.PodKey, Crowd] = {}
        self._by_key: dict[tuple[str, frozenset[tuple[str, str]]], Crowd] = {}
        self._by_labels: labels.Index[Crowd] = labels.Index()
        self._in_namespace: dict[str, set[Crowd]] = {}
        self._chosen: dict[str, set[Crowd]] = {}
        self._shared_names: dict[tuple[str, ...], tuple[str, ...]] = {}

    def put_pod(self, key: inventory.PodKey, pod: facts.Pod | None) -> None:
        """The pod is as `pod` now, or gone."""
        old = self._of_pod.get(key)
        if old and pod and old.labels is pod.labels and old.namespace == pod.namespace:
            return
        new = self._crowd(pod) if pod else None
        if old is new:
            return
        if old:
            del self._of_pod[key]
            old.pods.discard(key)
            self._forget_if_empty(old)
        if new:
            self._of_pod[key] = new
            new.pods.add(key)

    def chosen_by(self, key: inventory.PodKey, node: facts.Node) -> tuple[str, ...]:
        """Names of the policies that choose a pod on this node, sorted."""
        crowd = self._of_pod[key]
        if not crowd.by_node:
            return crowd.always
        here = [
            name
            for name, condition in crowd.by_node
            if any(selectors.matches(each, node.labels) for each in condition)
        ]
        return tuple(sorted([*crowd.always, *here]))

    def asks_for_node(self, key: inventory.PodKey) -> bool:
        return bool(self._of_pod[key].by_node)

    def put_policy(self, name: str, policy: policies.Policy | None) -> Iterable[Crowd]:
        """The policy's rules are these now (None: it chooses nobody); the crowds it gained or lost."""
        before = self._chosen.get(name, set())
        self._policies.pop(name, None)
        self._rules.remove(name)
        candidates = set(before)
        if policy:
            self._policies[name] = policy
            self._rules.put(policy)
            candidates |= self._candidates(policy)
        return [crowd for crowd in candidates if self._ask_again(crowd, name)]

    def put_namespace(self, name: str) -> Iterable[Crowd]:
        """The namespace has other labels now; the crowds to which that makes a difference."""
        return [crowd for crowd in self._in_namespace.get(name, ()) if self._ask(crowd)]

    def _crowd(self, pod: facts.Pod) -> Crowd:
        key = (pod.namespace, frozenset(pod.labels.items()))
        if key not in self._by_key:
            crowd = self._by_key[key] = Crowd(pod.namespace, pod.labels)
            self._by_labels.add(crowd, crowd.label_view())
            self._in_namespace.setdefault(pod.namespace, set()).add(crowd)
            self._ask(crowd)
        return self._by_key[key]

    def _forget_if_empty(self, crowd: Crowd) -> None:
        if crowd.pods:
            return
        del self._by_key[crowd.namespace, frozenset(crowd.labels.items())]
        self._by_labels.remove(crowd, crowd.label_view())
        self._in_namespace[crowd.namespace].discard(crowd)
        self._keep(crowd, {})

    def _candidates(self, policy: policies.Policy) -> set[Crowd]:
        """Of each rule the smaller of two: those that its podSelector leaves, those in its namespaces."""
        found: set[Crowd] = set()
        for rule in policy.rules:
            by_labels = self._by_labels.candidates(rule.pods)
            if rule.namespaces.requirements:
                in_namespaces = [
                    crowds
                    for name, crowds in self._in_namespace.items()
                    if selectors.matches(rule.namespaces, endpoints.namespace_labels(name, self._known))
                ]
                if sum(map(len, in_namespaces)) < len(by_labels):
                    by_labels = set().union(*in_namespaces)
            found |= by_labels
        return found

    def _ask_again(self, crowd: Crowd, name: str) -> bool:
        """One policy only; whether the answer is another than before."""
        chosen: dict[str, Condition] = dict.fromkeys(crowd.always, ()) | dict(crowd.by_node)
        chosen.pop(name, None)
        policy = self._policies.get(name)
        of_namespace = endpoints.namespace_labels(crowd.namespace, self._known)
        condition = _condition(policy, crowd.label_view(), of_namespace) if policy else None
        if condition is not None:
            chosen[name] = condition
        return self._keep(crowd, chosen)

    def _ask(self, crowd: Crowd) -> bool:
        """All policies that may choose it; whether the answer is another than before."""
        of_pod = crowd.label_view()
        of_namespace = endpoints.namespace_labels(crowd.namespace, self._known)
        chosen = {}
        for name in self._rules.candidates(of_pod, of_namespace):
            condition = _condition(self._policies[name], of_pod, of_namespace)
            if condition is not None:
                chosen[name] = condition
        return self._keep(crowd, chosen)

    def _keep(self, crowd: Crowd, chosen: Mapping[str, Condition]) -> bool:
        always = tuple(sorted(name for name, condition in chosen.items() if not condition))
        by_node = tuple(sorted((each for each in chosen.items() if each[1]), key=lambda each: each[0]))
        before = {*crowd.always, *(name for name, _ in crowd.by_node)}
        for name in before - chosen.keys():
            self._chosen[name].discard(crowd)
            if not self._chosen[name]:
                del self._chosen[name]
        for name in chosen.keys() - before:
            self._chosen.setdefault(name, set()).add(crowd)
        differs = (always, by_node) != (crowd.always, crowd.by_node)
        if len(self._shared_names) >= _SHARED_MAX:
            self._shared_names.clear()
        crowd.always = self._shared_names.setdefault(always, always)
        crowd.by_node = by_node
        return differs


def _condition(
    policy: policies.Policy, of_pod: Mapping[str, str], of_namespace: Mapping[str, str]
) -> Condition | None:
    nodes = []
    for rule in policy.rules:
        if selectors.matches(rule.pods, of_pod) and selectors.matches(rule.namespaces, of_namespace):
            if not rule.nodes.requirements:
                return ()
            nodes.append(rule.nodes)
    return tuple(nodes) or None
