"""Facts as they would be after `kubectl apply` and `kubectl delete`. Pure; nothing is applied.

A manifest holds what its author writes; what the cluster adds (uid, age, a pod's node and addresses, a node's
addresses, labels that kubelet sets) stays as it is known. So an update stays an update of the same object.
"""

from collections.abc import Iterable, Mapping

import msgspec

from ebbgate_bus.contracts import facts, subjects
from ebbgate_bus.contracts.message import Message
from ebbgate_watcher.core import objects

_KINDS = {name.lower(): kind.fact for name, kind in objects.KINDS.items()} | {
    "policy": "policy",
    "cegp": "policy",
    "ns": "namespace",
    "po": "pod",
    "no": "node",
}


class NotNamed(Exception):
    """KIND/NAME that isn't one; the text says why."""


def applied(known: Mapping[str, Message], seen: Iterable[objects.Observed]) -> dict[str, Message]:
    changed = dict(known)
    for each in seen:
        changed[each.subject] = _merged(changed.get(each.subject), each.fact)
    return changed


def deleted(known: Mapping[str, Message], names: Iterable[str]) -> dict[str, Message]:
    """`names`: KIND/NAME, for pods pod/NAMESPACE/NAME. Raises NotNamed, also for what doesn't exist."""
    changed = dict(known)
    for name in names:
        if changed.pop(subject_of(name), None) is None:
            raise NotNamed(f"{name} does not exist")
    return changed


def subject_of(text: str) -> str:
    """Raises NotNamed."""
    kind, _, name = text.partition("/")
    fact = _KINDS.get(kind.lower())
    if fact is None or not name:
        raise NotNamed(f"{text!r} is not KIND/NAME; kinds are {', '.join(sorted(objects.KINDS))}")
    ids = name.split("/") if "/" in name else (["default", name] if fact == "pod" else [name])
    if len(ids) != (2 if fact == "pod" else 1):
        raise NotNamed(f"{text!r}: pods are named pod/NAMESPACE/NAME, others KIND/NAME")
    try:
        return subjects.fact(fact, *ids)
    except ValueError as error:
        raise NotNamed(f"{text!r}: {error}") from error


def _merged(old: Message | None, new: facts.Fact) -> facts.Fact:
    match old, new:
        case facts.Policy(), facts.Policy():
            grown = old.generation + (bytes(old.spec) != bytes(new.spec))
            return msgspec.structs.replace(new, uid=old.uid, created=old.created, generation=grown)
        case facts.Pod(), facts.Pod():
            return _pod(old, new)
        case facts.Node(), facts.Node():
            return msgspec.structs.replace(
                new,
                labels=old.labels | new.labels,
                internal_ips=new.internal_ips or old.internal_ips,
                addresses=new.addresses or old.addresses,
                pod_cidrs=new.pod_cidrs or old.pod_cidrs,
            )
        case facts.Namespace(), facts.Namespace():
            return msgspec.structs.replace(new, labels=old.labels | new.labels)
        case _:
            return new


def _pod(old: facts.Pod, new: facts.Pod) -> facts.Pod:
    return msgspec.structs.replace(
        new,
        uid=old.uid,
        node=new.node or old.node,
        ips=new.ips or old.ips,
        phase=new.phase or old.phase,
        created=new.created or old.created,
    )
