"""Label selectors mean exactly what they mean to Kubernetes."""

import pytest

from ebbgate_resolver.core import answers
from ebbgate_resolver.core.rules import selectors
from ebbgate_resolver.core.rules.selectors import ExpressionSpec, SelectorSpec


def _expression(operator: str, *values: str, key: str = "app") -> SelectorSpec:
    return SelectorSpec(match_expressions=[ExpressionSpec(key, operator, list(values) or None)])


@pytest.mark.parametrize(
    ("operator", "absent", "listed", "other"),
    [("In", False, True, False), ("NotIn", True, False, True)],
)
def test_operators_with_values(operator: str, absent: bool, listed: bool, other: bool) -> None:
    selector = selectors.parse(_expression(operator, "web", "api"), "s")
    assert selectors.matches(selector, {}) is absent
    assert selectors.matches(selector, {"app": "web"}) is listed
    assert selectors.matches(selector, {"app": "db"}) is other


@pytest.mark.parametrize(
    ("operator", "absent", "there"), [("Exists", False, True), ("DoesNotExist", True, False)]
)
def test_operators_without_values(operator: str, absent: bool, there: bool) -> None:
    selector = selectors.parse(_expression(operator), "s")
    assert selectors.matches(selector, {}) is absent
    assert selectors.matches(selector, {"app": ""}) is there


def test_an_empty_value_is_a_value() -> None:
    selector = selectors.parse(SelectorSpec(match_labels={"app": ""}), "s")
    assert selectors.matches(selector, {"app": ""})
    assert not selectors.matches(selector, {})


def test_labels_and_expressions_must_all_hold() -> None:
    spec = SelectorSpec(match_labels={"a": "1"}, match_expressions=[ExpressionSpec("b", "Exists")])
    selector = selectors.parse(spec, "s")
    assert selectors.matches(selector, {"a": "1", "b": ""})
    assert not selectors.matches(selector, {"a": "1"})
    assert not selectors.matches(selector, {"b": ""})


@pytest.mark.parametrize(
    ("spec", "field", "word"),
    [
        (_expression("Is", "web"), "s.matchExpressions[0].operator", "unknown operator 'Is'"),
        (_expression("In"), "s.matchExpressions[0].values", "at least one value"),
        (_expression("NotIn"), "s.matchExpressions[0].values", "at least one value"),
        (_expression("Exists", "web"), "s.matchExpressions[0].values", "takes no values"),
        (_expression("Exists", key="a b"), "s.matchExpressions[0].key", "not a label key"),
        (_expression("Exists", key="/a"), "s.matchExpressions[0].key", "not a label key"),
        (_expression("Exists", key="A_B/a"), "s.matchExpressions[0].key", "not a label key"),
        (_expression("Exists", key="x" * 64), "s.matchExpressions[0].key", "not a label key"),
        (_expression("In", "-x"), "s.matchExpressions[0].values[0]", "not a label value"),
        (SelectorSpec(match_labels={"": "1"}), "s.matchLabels", "not a label key"),
        (SelectorSpec(match_labels={"a": "x" * 64}), "s.matchLabels[a]", "not a label value"),
    ],
)
def test_what_the_api_server_would_refuse_is_refused(spec: SelectorSpec, field: str, word: str) -> None:
    with pytest.raises(answers.Refusal) as refused:
        selectors.parse(spec, "s")
    assert refused.value.rejected.field == field
    assert word in refused.value.rejected.reason
