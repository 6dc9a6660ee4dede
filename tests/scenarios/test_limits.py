"""At the limits and beyond: large policies, many policies, long names. Each outcome is clear and said."""

import json
from typing import Any

import msgspec
import pytest

from ebbgate_bus.contracts import codec, facts, reports, rows, streams, subjects
from ebbgate_resolver.core import answers, engine
from ebbgate_resolver.core.rules import policies
from tests.scenarios import safety
from tests.unit import resolver_objects as objects

GW = objects.node("gw", "10.0.0.1", gw="yes")
NET = objects.network("gw", "10.0.0.1/24")
POD = objects.pod("a", "gw", "10.1.0.1")
MANY = 20_000


def _cidrs(count: int) -> list[str]:
    return [f"20.{i >> 16}.{i >> 8 & 255}.{i & 255}/32" for i in range(count)]


def _sets(written: dict[str, bytes]) -> dict[str, rows.Routes]:
    found = {}
    for subject, payload in written.items():
        if ".set." in subject and isinstance(row := codec.decode(subject, payload), rows.Routes):
            found[subject] = row
    return found


def _verdicts(made: engine.Step) -> dict[str, reports.Verdict]:
    found = (codec.decode(message.subject, message.payload) for message in made.verdicts)
    return {verdict.policy: verdict for verdict in found if isinstance(verdict, reports.Verdict)}


def test_of_a_policy_with_20_000_cidrs_one_more_sends_one_chunk() -> None:
    large = objects.policy("p", *_cidrs(MANY))
    resolver = objects.resolver_of(GW, NET, POD, large)
    chunks = _sets(objects.step(resolver))
    assert sum(len(row.routes) for row in chunks.values()) == MANY
    assert max(len(row.routes) for row in chunks.values()) <= rows.ROUTES_PER_CHUNK
    assert max(len(payload) for payload in resolver.live_rows.values()) < streams.MAX_PAYLOAD
    objects.step(resolver, 2.0)
    larger = msgspec.structs.replace(objects.policy("p", *_cidrs(MANY + 1)), generation=2)
    resolver.fold([objects.stored(larger)])
    written = objects.step(resolver, 3.0)
    (chunk,) = _sets(written)
    commit, group = subjects.commit(subjects.ALL_SCOPE), subjects.group("uid-p")
    assert written.keys() == {chunk, group, subjects.policy_in_force("p"), commit, subjects.WRITER}


def test_many_exclusions_within_many_destinations_are_read_in_good_time() -> None:
    fact = objects.policy(
        "p", *_cidrs(MANY), "30.0.0.0/8", excludedCIDRs=[f"30.0.{i}.0/24" for i in range(256)]
    )
    parsed = policies.parse(fact, "p")
    assert isinstance(parsed, policies.Policy)
    assert len(parsed.excluded) == 256


@pytest.mark.parametrize("field", ["destinationCIDRs", "excludedCIDRs"])
def test_more_cidrs_than_a_policy_may_have_are_rejected(field: str) -> None:
    fact = objects.policy("p", "0.0.0.0/0", **{field: ["20.0.0.0/8"] * (policies.CIDRS_MAX + 1)})
    rejected = policies.parse(fact, "p")
    assert isinstance(rejected, answers.Rejected)
    assert rejected.field == f"spec.{field}"
    assert "has 65537 CIDRs, and at most 65536 are allowed" in rejected.reason


def test_a_thousand_policies_on_one_pod_are_one_set() -> None:
    name = "n" * 248  # with its number, 253 letters: as long as names can be
    many = [objects.policy(f"{name}-{i:04}", f"20.{i >> 8}.{i & 255}.0/24") for i in range(1000)]
    checker, resolver = safety.Safety(), objects.resolver_of(GW, NET, POD, *many)
    made = resolver.step(1.0)
    checker.take(made.batches)
    resolver.stored(made)
    chunks = _sets(checker.rows)
    assert len({subject.split(".")[5] for subject in chunks}) == 1
    assert sum(len(row.routes) for row in chunks.values()) == 1000
    assert max(map(len, checker.rows.values())) < streams.MAX_PAYLOAD
    assert all(verdict.pods == 1 for verdict in _verdicts(made).values())


def test_names_and_labels_at_their_limits_are_served() -> None:
    label, value = f"{'p' * 63}.{'q' * 63}.{'r' * 63}.{'s' * 61}/{'k' * 63}", "v" * 63
    long = "x" * 253
    pod = facts.Pod(
        namespace="n" * 63,
        name=long,
        uid="u" * 36,
        node=long,
        ips=("10.1.0.9",),
        labels={label: value},
        phase="Running",
    )
    chosen = [{"podSelector": {"matchLabels": {label: value}}}]
    policy = objects.policy(long, "0.0.0.0/0", selectors=chosen)
    resolver = objects.resolver_of(GW, NET, objects.node(long, "10.0.0.2"), pod, policy)
    objects.step(resolver)
    row = codec.decode(
        subjects.endpoint(long, "10.1.0.9"), resolver.live_rows[subjects.endpoint(long, "10.1.0.9")]
    )
    assert isinstance(row, rows.Endpoint)
    assert row.pod == f"{'n' * 63}/{long}"


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        ({"k" * 64: "v"}, "spec.selectors[0].podSelector.matchLabels"),
        ({"k": "v" * 64}, "spec.selectors[0].podSelector.matchLabels[k]"),
        ({f"{'p' * 254}/k": "v"}, "spec.selectors[0].podSelector.matchLabels"),
    ],
)
def test_labels_beyond_their_limits_are_rejected(labels: dict[str, str], field: str) -> None:
    fact = objects.policy("p", "0.0.0.0/0", selectors=[{"podSelector": {"matchLabels": labels}}])
    rejected = policies.parse(fact, "p")
    assert isinstance(rejected, answers.Rejected)
    assert rejected.field == field


def test_more_gateways_than_allowed_are_rejected_and_as_many_are_served() -> None:
    gateways: list[dict[str, Any]] = [{"nodeSelector": {}, "egressIP": f"10.0.0.{i}"} for i in range(1, 66)]
    rejected = policies.parse(objects.policy("p", "0.0.0.0/0", egressGateways=gateways), "p")
    assert isinstance(rejected, answers.Rejected)
    assert rejected == answers.Rejected("spec.egressGateways", "has 65 gateways, and at most 64 are allowed")
    parsed = policies.parse(objects.policy("p", "0.0.0.0/0", egressGateways=gateways[:64]), "p")
    assert isinstance(parsed, policies.Policy)
    assert len(parsed.gateways) == policies.GATEWAYS_MAX


def test_a_spec_of_a_policy_fits_into_a_message() -> None:
    """The largest that is accepted, in the form in which it travels."""
    longest = [
        f"2001:db8:ffff:ffff:ffff:ffff:{i >> 12:x}:{i & 4095:x}/128" for i in range(policies.CIDRS_MAX)
    ]
    fact = objects.policy("p", *longest)
    assert len(codec.encode(fact)) < streams.MAX_PAYLOAD
    assert json.loads(bytes(fact.spec))["destinationCIDRs"] == longest
