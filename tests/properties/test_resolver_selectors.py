"""Selectors equal a naive evaluator written from Kubernetes' documentation, on any labels."""

import hypothesis
from hypothesis import strategies as st

from ebbgate_resolver.core.rules import selectors
from ebbgate_resolver.core.rules.selectors import ExpressionSpec, SelectorSpec

KEYS = st.sampled_from(["app", "tier", "example.org/team"])
VALUES = st.sampled_from(["", "web", "api", "db"])
LABELS = st.dictionaries(KEYS, VALUES)


@st.composite
def _expressions(draw: st.DrawFn) -> ExpressionSpec:
    operator = draw(st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]))
    values = draw(st.lists(VALUES, min_size=1, max_size=3)) if operator in ("In", "NotIn") else None
    return ExpressionSpec(draw(KEYS), operator, values)


def _naive(spec: SelectorSpec, labels: dict[str, str]) -> bool:
    for key, value in (spec.match_labels or {}).items():
        if key not in labels or labels[key] != value:
            return False
    for each in spec.match_expressions or []:
        there = each.key in labels
        good = {
            "In": there and labels.get(each.key) in (each.values or []),
            "NotIn": not there or labels[each.key] not in (each.values or []),
            "Exists": there,
            "DoesNotExist": not there,
        }[each.operator]
        if not good:
            return False
    return True


@hypothesis.given(st.builds(SelectorSpec, st.none() | LABELS, st.none() | st.lists(_expressions())), LABELS)
def test_selectors_equal_a_naive_evaluator(spec: SelectorSpec, labels: dict[str, str]) -> None:
    assert selectors.matches(selectors.parse(spec, "s"), labels) == _naive(spec, labels)
