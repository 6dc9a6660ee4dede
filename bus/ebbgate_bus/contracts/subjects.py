"""Names of everything on the bus: `ebbgate.v1.<kind>.…`, built and taken apart in this one place.

Kubernetes names may hold dots, which NATS reads as separators; they never hold `_`, so `.` is written `_` and
read back without loss. Policy uids and pod keys from sources without uids may hold `/`, which NATS allows.
"""

import functools

import msgspec

ROOT = "ebbgate.v1"
LIVE = f"{ROOT}.live"
WRITER = f"{ROOT}.plan.writer"
FACT_WRITER = f"{ROOT}.fact.writer"
ALL = "all"
ALL_SCOPE = f"{ROOT}.plan.all"

_PREFIX = f"{ROOT}."
_NODE_PREFIX = f"{ROOT}.plan.node."
_ILLEGAL = frozenset(" _*>")


def escape(name: str) -> str:
    """A token for `name`. Raises ValueError for what no Kubernetes name holds (empty, blank, `_`, `*`, `>`,
    control characters).
    """
    if not (name.isascii() and name.isprintable() and name and _ILLEGAL.isdisjoint(name)):
        raise ValueError(f"not a name that can be a subject token: {name!r}")
    return name.replace(".", "_")


def unescape(token: str) -> str:
    return token.replace("_", ".")


def fact(kind: str, *ids: str) -> str:
    """`fact("pod", namespace, name)`, `fact("node", name)`, …"""
    return ".".join((ROOT, "fact", kind, *map(escape, ids)))


def synced(kind: str) -> str:
    return f"{ROOT}.synced.{kind}"


def routes(set_id: str, chunk: int) -> str:
    return f"{ALL_SCOPE}.set.{set_id}.{chunk}"


def group(policy_uid: str) -> str:
    return f"{ALL_SCOPE}.group.{escape(policy_uid)}"


def peer(node: str) -> str:
    return f"{ALL_SCOPE}.peer.{escape(node)}"


def cluster(cidr: str) -> str:
    return f"{ALL_SCOPE}.cluster.{escape(cidr)}"


@functools.lru_cache(maxsize=8192)
def node_scope(node: str) -> str:
    return f"{ROOT}.plan.node.{escape(node)}"


def endpoint(node: str, pod_ip: str) -> str:
    return f"{node_scope(node)}.endpoint.{escape(pod_ip)}"


def egress(node: str, slot: int) -> str:
    return f"{node_scope(node)}.egress.{slot}"


def commit(scope: str) -> str:
    """`scope`: ALL_SCOPE or `node_scope(name)`."""
    return f"{scope}.commit"


def policy_in_force(policy: str) -> str:
    return f"{ROOT}.plan.policy.{escape(policy)}"


def status(node: str) -> str:
    return f"{ROOT}.status.{escape(node)}"


def verdict(policy: str) -> str:
    return f"{ROOT}.verdict.{escape(policy)}"


def stats(node: str) -> str:
    return f"{ROOT}.stats.{escape(node)}"


def dropped(node: str) -> str:
    """Not stored, and so not on `live`."""
    return f"{ROOT}.drop.{escape(node)}"


def beat(service: str, name: str) -> str:
    return f"{ROOT}.beat.{service}.{escape(name)}"


def live(subject: str) -> str:
    """Where the server republishes a stored message of `subject`."""
    return LIVE + subject.removeprefix(ROOT)


def stored(live_subject: str) -> str:
    """The subject under which a message seen on `live` is stored."""
    return ROOT + live_subject.removeprefix(LIVE)


class Name(msgspec.Struct, frozen=True, gc=False):
    """A subject taken apart. `kind`: e.g. `fact.pod`, `plan.endpoint`, `plan.commit`, `status`.

    `scope`: ALL_SCOPE or a node's scope for rows and Commits, else empty. `ids`: unescaped, in subject order,
    without the node of a scope; `node`: that node.
    """

    kind: str
    ids: tuple[str, ...] = ()
    scope: str = ""
    node: str = ""


@functools.lru_cache(maxsize=1024)
def parse(subject: str) -> Name | None:
    """The parts of a stored subject, or None if it isn't one of ours (of this major version).

    The last ones are remembered: each message's subject is asked about several times in a row.
    """
    if not subject.startswith(_PREFIX):
        return None
    family, *tokens = subject[len(_PREFIX) :].split(".")
    if not tokens:
        return None
    ids = tuple([token.replace("_", ".") for token in tokens] if "_" in subject else tokens)
    if family == "plan":
        return _parse_plan(tokens, ids)
    if family == "fact":
        return Name(f"fact.{tokens[0]}", ids[1:]) if len(tokens) >= 2 or ids == ("writer",) else None
    if family in ("status", "verdict", "synced", "beat", "stats", "drop"):
        return Name(family, ids)
    return None


def _parse_plan(tokens: list[str], ids: tuple[str, ...]) -> Name | None:
    if tokens[0] == "node" and len(tokens) >= 3:
        return Name(f"plan.{tokens[2]}", ids[3:], _NODE_PREFIX + tokens[1], ids[1])
    if tokens[0] == "all" and len(tokens) >= 2:
        return Name(f"plan.{tokens[1]}", ids[2:], ALL_SCOPE)
    if tokens[0] == "policy" and len(tokens) == 2:
        return Name("plan.policy", ids[1:])
    return Name("plan.writer") if tokens == ["writer"] else None


def scope_of(subject: str) -> str:
    """The scope of a row or Commit, without taking the rest of its subject apart; empty for all others."""
    if subject.startswith(f"{ALL_SCOPE}."):
        return ALL_SCOPE
    if not subject.startswith(_NODE_PREFIX):
        return ""
    end = subject.find(".", len(_NODE_PREFIX))
    return subject[:end] if end > 0 else ""
