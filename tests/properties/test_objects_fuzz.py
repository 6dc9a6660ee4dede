"""Whatever is written into an object of any kind: it is a fact, or it is refused with a reason.

From JSON to verdict nothing raises, and what one object says never keeps another from being served.
"""

import json
from typing import Any

import hypothesis
import msgspec
from hypothesis import strategies as st

from ebbgate_bus.contracts import codec, facts, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_cli import world
from ebbgate_resolver.core import answers
from ebbgate_resolver.core.rules import policies
from ebbgate_watcher.core import objects
from tests.unit import resolver_objects

KINDS = sorted(objects.KINDS)
WORDS = st.sampled_from(
    [
        *("metadata", "name", "namespace", "uid", "labels", "spec", "status", "a", "", "In", "Exists"),
        *("0.0.0.0/0", "::/0", "10.0.0.0/33", "fe80::1%eth0", "10.0.0.1", "node1", "ipv4", "1e999", "\u0664"),
        *("podIPs", "ip", "addresses", "interfaces", "selectors", "podSelector", "destinationCIDRs"),
    ]
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8), WORDS
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=12,
)
GOOD_METADATA = {"name": "n1", "uid": "u1", "labels": {"a": "b"}}


@st.composite
def manifests(draw: st.DrawFn) -> dict[str, Any]:
    """Of a known kind; each of its parts is right, nearly right or anything at all."""
    kind = draw(st.sampled_from(KINDS))
    api_version = objects.KINDS[kind].api_versions[0]
    metadata = draw(st.one_of(st.just(GOOD_METADATA), st.fixed_dictionaries({"name": SCALARS}), ANYTHING))
    made = {"apiVersion": api_version, "kind": kind, "metadata": metadata}
    for part in ("spec", "status"):
        if draw(st.booleans()):
            made[part] = draw(st.one_of(specs(kind), ANYTHING))
    return made


def specs(kind: str) -> st.SearchStrategy[Any]:
    fields = {
        "Pod": ["nodeName", "hostNetwork", "phase", "podIP", "podIPs"],
        "Node": ["podCIDR", "podCIDRs", "addresses"],
        "NodeNetwork": ["interfaces"],
        "ServiceCIDR": ["cidrs"],
        "CiliumEgressGatewayPolicy": list(SPEC),
    }.get(kind, ["x"])
    return st.dictionaries(st.sampled_from(fields), ANYTHING, max_size=4)


SPEC: dict[str, Any] = {
    "selectors": [{"podSelector": {"matchLabels": {"a": "b"}}}],
    "destinationCIDRs": ["0.0.0.0/0"],
    "excludedCIDRs": ["10.0.0.0/8"],
    "egressGateway": {"nodeSelector": {}, "interface": "eth0"},
    "egressGateways": [{"nodeSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}],
}


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(deep for key, inner in items for deep in _paths(inner, (*path, key)))]


@st.composite
def nearly_good_specs(draw: st.DrawFn) -> Any:
    """A good spec with one place replaced by anything."""
    spec = json.loads(json.dumps(SPEC))
    path = draw(st.sampled_from(_paths(SPEC)[1:]))
    holder = spec
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = draw(ANYTHING)
    return spec


@hypothesis.given(st.lists(manifests(), max_size=6))
@hypothesis.settings(deadline=None)
def test_any_object_becomes_rows_or_is_refused(made: list[dict[str, Any]]) -> None:
    stage = world.World()
    for manifest in made:
        seen = objects.normalise(manifest)
        assert isinstance(seen, objects.Observed) or seen.reason
        stage.put(seen)
    stage.settle()
    assert stage.resolver.step(stage.now_s + 1).batches == ()
    stage.entries()


@hypothesis.given(ANYTHING)
@hypothesis.settings(deadline=None)
def test_what_is_no_object_at_all_is_refused(value: object) -> None:
    seen = objects.normalise(value)
    assert isinstance(seen, objects.Unusable)
    assert seen.reason


@hypothesis.given(nearly_good_specs())
@hypothesis.settings(deadline=None)
def test_a_spec_with_anything_in_one_place_is_a_policy_or_names_its_field(spec: Any) -> None:
    manifest = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumEgressGatewayPolicy",
        "metadata": {"name": "p"},
        "spec": spec,
    }
    seen = objects.normalise(manifest)
    assert isinstance(seen, objects.Observed), seen
    parsed = policies.parse(seen.fact, "p")  # type: ignore[arg-type]
    if isinstance(parsed, answers.Rejected):
        assert parsed.field.startswith("spec")
        assert parsed.reason


GOOD = [
    resolver_objects.node("gw", "10.0.0.1", gw="yes"),
    resolver_objects.network("gw", "10.0.0.1/24"),
    resolver_objects.pod("a", "gw", "10.1.0.1"),
    resolver_objects.policy("good", "0.0.0.0/0"),
]
FACT_SUBJECTS = [
    subjects.fact("pod", "x", "y"),
    subjects.fact("node", "x"),
    subjects.fact("namespace", "x"),
    subjects.fact("policy", "x"),
    subjects.fact("servicecidr", "x"),
    subjects.fact("nodenetwork", "x"),
    subjects.status("x"),
    f"{subjects.ROOT}.fact.moon.x",
]


@hypothesis.given(
    st.lists(
        st.tuples(st.sampled_from(FACT_SUBJECTS), st.binary(max_size=20) | ANYTHING.map(codec.sorted_json))
    )
)
@hypothesis.settings(deadline=None)
def test_any_bytes_on_the_bus_leave_the_others_served(messages: list[tuple[str, bytes]]) -> None:
    resolver = resolver_objects.resolver_of(*GOOD)
    resolver.fold([Stored(subject, payload, 0) for subject, payload in messages])
    resolver_objects.step(resolver)
    assert subjects.endpoint("gw", "10.1.0.1") in resolver.live_rows
    assert subjects.group("uid-good") in resolver.live_rows


TEXT = st.sampled_from(["", "x", "a b", "a_b", "a/b", "10.0.0.1", "::1", "nonsense", "10.0.0.0/8", "é", "\0"])
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
LABELS = st.dictionaries(TEXT, TEXT, max_size=2)
SPECS = st.one_of(nearly_good_specs(), ANYTHING).map(lambda spec: msgspec.Raw(codec.sorted_json(spec)))
INTERFACES = st.lists(
    st.builds(
        facts.Interface,
        name=TEXT,
        index=st.integers(),
        alt_names=TEXTS,
        addresses=TEXTS,
        default_route=TEXTS,
    ),
    max_size=2,
).map(tuple)
ODD_FACTS = st.one_of(
    st.builds(
        facts.Pod,
        namespace=TEXT,
        name=TEXT,
        uid=TEXT,
        node=st.sampled_from(["gw", "x", "a b", ""]),
        ips=TEXTS,
        labels=LABELS,
        phase=TEXT,
        created=TEXT,
    ).map(lambda fact: (subjects.fact("pod", "x", "y"), fact)),
    st.builds(facts.Node, name=TEXT, labels=LABELS, internal_ips=TEXTS, addresses=TEXTS, pod_cidrs=TEXTS).map(
        lambda fact: (subjects.fact("node", "x"), fact)
    ),
    st.builds(facts.Policy, name=TEXT, uid=TEXT, created=TEXT, spec=SPECS).map(
        lambda fact: (subjects.fact("policy", "x"), fact)
    ),
    st.builds(facts.ServiceCidr, name=TEXT, cidrs=TEXTS).map(
        lambda fact: (subjects.fact("servicecidr", "x"), fact)
    ),
    st.builds(facts.NodeNetwork, node=TEXT, interfaces=INTERFACES).map(
        lambda fact: (subjects.fact("nodenetwork", "x"), fact)
    ),
)


@hypothesis.given(st.lists(ODD_FACTS, max_size=4))
@hypothesis.settings(deadline=None)
def test_facts_that_no_watcher_would_publish_leave_the_others_served(
    odd: list[tuple[str, facts.Fact]],
) -> None:
    resolver = resolver_objects.resolver_of(*GOOD)
    resolver.fold([Stored(subject, codec.encode(fact), 0) for subject, fact in odd])
    resolver_objects.step(resolver)
    assert subjects.endpoint("gw", "10.1.0.1") in resolver.live_rows
    assert subjects.group("uid-good") in resolver.live_rows
