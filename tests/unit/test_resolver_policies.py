"""A policy's spec is accepted whole or rejected with the field that is wrong."""

import json
from typing import Any

import msgspec
import pytest

from ebbgate_bus.contracts import facts
from ebbgate_resolver.core import answers
from ebbgate_resolver.core.rules import policies

GOOD: dict[str, Any] = {
    "selectors": [{"podSelector": {}}],
    "destinationCIDRs": ["1.1.1.0/24"],
    "egressGateway": {"nodeSelector": {}},
}


def _parse(spec: object) -> policies.Policy | answers.Rejected:
    fact = facts.Policy(name="p", uid="u", spec=msgspec.Raw(json.dumps(spec).encode()))
    return policies.parse(fact, "p")


def _accepted(**changed: object) -> policies.Policy:
    parsed = _parse(GOOD | changed)
    assert isinstance(parsed, policies.Policy), parsed
    return parsed


@pytest.mark.parametrize(
    ("changed", "field", "word"),
    [
        ({"selectors": None}, "spec.selectors", "is missing"),
        ({"selectors": [{}]}, "spec.selectors[0]", "nodeSelector alone"),
        ({"selectors": [{"podSelector": 3}]}, "spec.selectors[0].podSelector", "got int"),
        (
            {"selectors": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}]},
            "spec.selectors[0].podSelector.matchExpressions[0].operator",
            "'Like'",
        ),
        ({"destinationCIDRs": None}, "spec.destinationCIDRs", "is missing"),
        ({"destinationCIDRs": ["1.1.1.1"]}, "spec.destinationCIDRs[0]", "not a CIDR"),
        ({"destinationCIDRs": ["10.0.0.0/255.0.0.0"]}, "spec.destinationCIDRs[0]", "not a CIDR"),
        ({"destinationCIDRs": ["fe80::%eth0/64"]}, "spec.destinationCIDRs[0]", "not a CIDR"),
        ({"destinationCIDRs": [7]}, "spec.destinationCIDRs[0]", "got int"),
        ({"excludedCIDRs": ["x"]}, "spec.excludedCIDRs[0]", "not a CIDR"),
        ({"egressGateway": None}, "spec.egressGateway", "is missing"),
        ({"egressGateway": {}}, "spec.egressGateway.nodeSelector", "is missing"),
        ({"egressGateway": {"nodeSelector": []}}, "spec.egressGateway.nodeSelector", "got array"),
        (
            {"egressGateway": {"nodeSelector": {}, "interface": "a", "egressIP": "1.1.1.1"}},
            "spec.egressGateway",
            "both interface and egressIP",
        ),
        (
            {"egressGateway": {"nodeSelector": {}, "egressIP": "fe80::1%a"}},
            "spec.egressGateway.egressIP",
            "not an IP",
        ),
        (
            {"egressGateway": {"nodeSelector": {}, "egressIP": "::"}},
            "spec.egressGateway.egressIP",
            "the source",
        ),
        ({"egressGateways": [{"nodeSelector": {}}] * 65}, "spec.egressGateways", "at most 64"),
        ({"egressGateways": [{"nodeSelector": {}}, {}]}, "spec.egressGateways[1].nodeSelector", "is missing"),
    ],
)
def test_rejected_with_field_and_reason(changed: dict[str, object], field: str, word: str) -> None:
    rejected = _parse(GOOD | changed)
    assert isinstance(rejected, answers.Rejected)
    assert rejected.field == field
    assert word in rejected.reason


@pytest.mark.parametrize(("spec", "field"), [(None, "spec"), ([], "spec"), ("x", "spec")])
def test_a_spec_that_is_no_object_is_rejected(spec: object, field: str) -> None:
    rejected = _parse(spec)
    assert isinstance(rejected, answers.Rejected)
    assert rejected.field == field


def test_cidrs_are_masked_sorted_and_single() -> None:
    policy = _accepted(destinationCIDRs=["2001:db8::1/64", "10.1.2.3/8", "1.1.1.0/24", "10.0.0.0/8"])
    assert policy.destinations == ("1.1.1.0/24", "10.0.0.0/8", "2001:db8::/64")
    assert policy.families == ("ipv4", "ipv6")


def test_exclusions_outside_the_own_destinations_have_no_effect() -> None:
    policy = _accepted(excludedCIDRs=["1.1.1.0/24", "1.1.1.8/29", "1.1.0.0/16", "2.0.0.0/8", "::/0"])
    assert policy.excluded == ("1.1.1.0/24", "1.1.1.8/29")


def test_fields_that_are_not_ours_are_ignored() -> None:
    assert _accepted(later={"a": 1}) == _accepted()


def test_older_is_senior_and_unknown_age_is_youngest() -> None:
    ages = ["2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z", ""]
    seniorities = [msgspec.structs.replace(_accepted(), created=age).seniority for age in ages]
    assert seniorities == sorted(seniorities)
