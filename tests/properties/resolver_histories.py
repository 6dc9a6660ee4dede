"""Dense little worlds for properties of the resolver: few names, few addresses, so that everything collides.

Three nodes that are gateways mostly, eight pods on them that share four addresses, three policies that choose
nearly all of them and may share a uid. Everything is made by choosing among a few things, so that the same
words serve Hypothesis (`strategy`), which tries to make a failure small, and dice, which try far more.
"""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from ebbgate_bus.contracts import codec, facts, reports, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.contracts.message import Message
from tests.unit import resolver_objects as objects

Choose = Callable[[Sequence[Any]], Any]
"""One of several; an option that is there twice is twice as likely."""

NODES = ["n1", "n2", "n3"]
UNKNOWN = "n9"
"""A node that is seldom there."""
PODS = [
    ("default", "p"),
    ("default", "q"),
    ("default", "r"),
    ("default", "s"),
    ("other", "p"),
    ("other", "q"),
]
POLICIES = "xyz"
NAMESPACES = ["default", "other"]
TIMES = ["", "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"]
LABELS = [
    {"app": "a"},
    {"app": "b"},
    {"app": "a", "tier": "x"},
    {"app": "b", "gw": "yes"},
    {"tier": ""},
    {"app": "a", "gw": "yes"},
    {},
]
TEAMS = [{}, {"team": "a"}, {"team": "b"}]
OF_PODS = [
    {},
    {},
    {"matchLabels": {"app": "a"}},
    {"matchLabels": {"app": "a"}},
    {"matchLabels": {"app": "b"}},
    {"matchLabels": {"io.kubernetes.pod.namespace": "other"}},
    {"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "x"]}]},
    {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]},
    {"matchExpressions": [{"key": "tier", "operator": "Exists"}]},
    {"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]},
    {"matchLabels": {"gw": "yes"}, "matchExpressions": [{"key": "app", "operator": "Exists"}]},
]
OF_NAMESPACES = [
    {},
    {"matchLabels": {"team": "a"}},
    {"matchLabels": {"kubernetes.io/metadata.name": "other"}},
    {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["b"]}]},
]
OF_NODES = [{"matchLabels": {"gw": "yes"}}, {"matchLabels": {"app": "a"}}, {"matchLabels": {"gw": "yes"}}, {}]
CIDRS = ["0.0.0.0/0", "0.0.0.0/0", "20.0.0.0/8", "20.1.0.0/16", "20.1.2.3/16", "::/0"]


def node(choose: Choose, name: str = "") -> facts.Node:
    name = name or choose([*NODES, *NODES, UNKNOWN])
    own = f"10.0.0.{name[1]}"
    labels = choose([{"gw": "yes"}, {"gw": "yes"}, {"gw": "yes", "app": "a"}, {"app": "a"}, {}])
    return objects.node(name, choose([own] * 8 + ["10.0.0.1", ""]), **labels)


def network(choose: Choose, name: str = "") -> facts.NodeNetwork:
    addresses = choose(
        [
            ("192.0.2.1/24",),
            ("192.0.2.2/24", "2001:db8::2/64"),
            ("192.0.2.1/24", "192.0.2.2/24"),
            ("192.0.2.3/24", "192.0.2.2/24", "2001:db8::1/64"),
            ("2001:db8::1/64",),
            (),
        ]
    )
    return objects.network(name or choose(NODES), *addresses)


def pod(choose: Choose, key: tuple[str, str] = ("", "")) -> facts.Pod:
    namespace, name = key if key[1] else choose(PODS)
    number = choose([1, 1, 2])
    four, six = f"10.1.0.{number}", f"fd00::{number}"
    ips = choose([(four,)] * 5 + [(four, six), (six, four), ("10.1.0.1", "10.1.0.2"), ()])
    on = choose(["n1"] * 5 + ["n2"] * 4 + ["n3"] * 2 + [UNKNOWN])
    made = objects.pod(name, on, *ips, **choose(LABELS))
    return msgspec.structs.replace(
        made,
        namespace=namespace,
        uid=f"uid-{namespace}-{name}-{choose([1, 2, 3])}",
        phase=choose(["Running"] * 8 + ["Pending", "Succeeded"]),
        host_network=choose([False] * 12 + [True]),
        created=choose(TIMES),
    )


def policy(choose: Choose, name: str = "", uids: Sequence[str] = ()) -> facts.Policy:
    """`uids`: of others, which it may have as well as its own."""
    rules = [_rule(choose) for _ in range(choose([1, 1, 1, 1, 1, 2, 2, 0]))]
    made = objects.policy(
        name or choose(POLICIES),
        *(
            [choose(CIDRS) for _ in range(choose([1, 1, 1, 2, 2, 3, 0]))]
            if choose(range(16))
            else ["nonsense"]
        ),
        created=choose(TIMES),
        selectors=rules,
        excludedCIDRs=choose([[], [], ["20.1.0.0/16"], ["0.0.0.0/0"]]),
        egressGateways=[_gateway(choose) for _ in range(choose([1, 1, 2, 3]))],
    )
    return msgspec.structs.replace(made, uid=choose((made.uid, made.uid, f"{made.uid}-2", *uids)))


def _rule(choose: Choose) -> dict[str, Any]:
    found = {"podSelector": choose(OF_PODS)}
    if choose(range(4)) == 0:
        found["namespaceSelector"] = choose(OF_NAMESPACES)
    if choose(range(5)) == 0:
        found["nodeSelector"] = choose(OF_NODES)
    return found


def _gateway(choose: Choose) -> dict[str, Any]:
    ways = [{}, {}, {"interface": "eth0"}, {"egressIP": "192.0.2.2"}, {"egressIP": "2001:db8::1"}]
    return {"nodeSelector": choose(OF_NODES)} | choose(ways)


def namespace(choose: Choose, name: str = "") -> facts.Namespace:
    return facts.Namespace(name=name or choose(NAMESPACES), labels=choose(TEAMS))


def service_cidr(choose: Choose, name: str = "") -> facts.ServiceCidr:
    cidrs = choose([(), ("10.96.0.0/12",), ("10.0.0.1/32", "nonsense"), ("20.1.0.0/16",)])
    return facts.ServiceCidr(name=name or choose(["kubernetes", "second"]), cidrs=cidrs)


def anything(choose: Choose, uids: Sequence[str] = ()) -> Message:
    kinds = [pod, pod, pod, policy, policy, node, network, namespace, service_cidr]
    made = choose(kinds)
    found: Message = policy(choose, "", uids) if made is policy else made(choose)
    return found


def altered(choose: Choose, known: Message, uids: Sequence[str] = ()) -> Message:
    """The same object with one thing of another: labels, node, address, age, gateways, ..."""
    other, own = _like(choose, known, uids)
    differing = [
        name
        for name in known.__struct_fields__
        if name not in own and getattr(known, name) != getattr(other, name)
    ]
    if not differing:
        return other
    field = choose(differing)
    value = getattr(other, field)
    if isinstance(known, facts.Policy) and isinstance(other, facts.Policy) and field == "spec":
        value = _with_one_part(choose, known.spec, other.spec)
    return msgspec.structs.replace(known, **{field: value})


def _like(choose: Choose, known: Message, uids: Sequence[str]) -> tuple[Message, tuple[str, ...]]:
    """Another object of that name, and what it is named by."""
    match known:
        case facts.Pod():
            return pod(choose, (known.namespace, known.name)), ("namespace", "name")
        case facts.Policy():
            return policy(choose, known.name, uids), ("name",)
        case facts.Node():
            return node(choose, known.name), ("name",)
        case facts.NodeNetwork():
            return network(choose, known.node), ("node",)
        case facts.Namespace():
            return namespace(choose, known.name), ("name",)
        case _:
            assert isinstance(known, facts.ServiceCidr)
            return service_cidr(choose, known.name), ("name",)


def _with_one_part(choose: Choose, spec: msgspec.Raw, other: msgspec.Raw) -> msgspec.Raw:
    whole, parts = json.loads(bytes(spec)), json.loads(bytes(other))
    key = choose([name for name in sorted(parts) if whole.get(name) != parts[name]] or ["selectors"])
    return msgspec.Raw(json.dumps(whole | {key: parts[key]}, sort_keys=True).encode())


def ground() -> list[Message]:
    """Three nodes that can be gateways: without them little is ever steered."""
    made: list[Message] = []
    for number, name in enumerate(NODES, 1):
        made.append(objects.node(name, f"10.0.0.{number}", gw="yes"))
        made.append(objects.network(name, f"192.0.2.{number}/24"))
    return made


def strategy(make: Callable[[Choose], Message]) -> st.SearchStrategy[Message]:
    @st.composite
    def drawn(draw: st.DrawFn) -> Message:
        return make(lambda options: draw(st.sampled_from(options)))

    return drawn()


@st.composite
def messages(draw: st.DrawFn) -> Stored:
    """An object as it is now, or its absence."""
    made = draw(strategy(anything))
    return objects.gone(made) if draw(st.integers(0, 4)) == 0 else objects.stored(made)


def dice(seed: int) -> Choose:
    return random.Random(seed).choice


def report(resolver_rows: dict[str, bytes], node_: str, revision: int) -> Stored:
    """What a programmer reports that did all that these rows tell it."""
    slots: dict[str, Any] = {}
    for subject, payload in resolver_rows.items():
        name = subjects.parse(subject)
        if name is not None and name.kind == "plan.egress" and name.node == node_:
            row = codec.decode(subject, payload)
            slots[name.ids[0]] = getattr(row, "egress_ip", "")
    applied = reports.Applied(node=node_, all_revision=revision, node_revision=revision, slots=slots)
    return Stored(subjects.status(node_), codec.encode(applied), 0)
