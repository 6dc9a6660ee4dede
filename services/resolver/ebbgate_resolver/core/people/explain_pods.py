"""Whose packets are these? A pod as a source: is it an endpoint, and does it have its address for itself.

Leg: a part of `explain`. The rules are those of `endpoints`, found again by asking every pod.
"""

import difflib

import msgspec

from ebbgate_bus.contracts import facts
from ebbgate_resolver.core import addresses, inventory
from ebbgate_resolver.core.people.explanation import Why


class Owner(msgspec.Struct, frozen=True):
    """`pod`: the one whose packets these are for a node. `obstacle`: why policies don't apply, or empty."""

    pod: facts.Pod
    ip: str = ""
    obstacle: str = ""
    why: tuple[Why, ...] = ()


def find(known: inventory.Inventory, text: str) -> facts.Pod | None:
    """`text`: namespace/name, or the address of a pod (of several that have it, one that is an endpoint)."""
    namespace, slash, name = text.partition("/")
    if slash:
        return known.pods.get((namespace, name))
    address = addresses.address(text)
    having = [pod for pod in known.pods.values() if address and str(address) in pod.ips]
    return min(having, key=lambda pod: (bool(obstacle(pod, known)), precedence(pod)), default=None)


def near(known: inventory.Inventory, text: str) -> list[str]:
    """Names of pods that could have been meant, the nearest first; the same name elsewhere counts most."""
    names = [f"{namespace}/{name}" for namespace, name in known.pods]
    tail = text.rpartition("/")[2]
    same = sorted(name for name in names if name.rpartition("/")[2] == tail)
    return list(dict.fromkeys([*same, *difflib.get_close_matches(text, names, n=3, cutoff=0.7)]))[:3]


def source_of(pod: facts.Pod, family: str) -> str:
    """The pod's address that packets of `family` come from, or empty."""
    parsed = (address for text in pod.ips if (address := addresses.address(text)))
    return next((str(address) for address in parsed if addresses.family(address) == family), "")


def owner(pod: facts.Pod, ip: str, known: inventory.Inventory) -> Owner:
    """Who has `ip`, an address of the pod's, on the pod's node: of several the one with precedence, whether
    a policy chooses it or not.
    """
    if reason := obstacle(pod, known):
        return Owner(pod, ip, reason)
    having = [each for each in known.pods.values() if each.node == pod.node and ip in each.ips]
    sharing = [each for each in having if not obstacle(each, known)]
    first = min(sharing, key=precedence, default=pod)
    others = {_name(each) for each in (*sharing, pod)} - {_name(first)}
    if not others:
        return Owner(first, ip)
    text = f"{ip} is also the address of {', '.join(sorted(others))}; its packets count as {_name(first)}'s"
    return Owner(first, ip, why=(Why(text),))


def _name(pod: facts.Pod) -> str:
    return f"{pod.namespace}/{pod.name}"


def obstacle(pod: facts.Pod, known: inventory.Inventory) -> str:
    """Why no policy applies to the pod, or empty."""
    if pod.node not in known.nodes:
        return f"the pod's node {pod.node} is not known" if pod.node else "the pod has no node yet"
    if pod.phase in ("Succeeded", "Failed"):
        return f"the pod has ended ({pod.phase})"
    if pod.host_network:
        return "the pod is on the host's network, its packets have the node's address"
    return "" if pod.ips else "the pod has no IP address"


def precedence(pod: facts.Pod) -> tuple[bool, list[int], bool, str, str, str]:
    """Of pods with one address the newer has it; else the running one, then the smaller uid."""
    newest_first = [-ord(letter) for letter in pod.created]
    return (not pod.created, newest_first, pod.phase != "Running", pod.uid, pod.namespace, pod.name)
