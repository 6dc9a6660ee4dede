"""Label selectors, with the exact meaning that Kubernetes gives them. Parsed once, evaluated often.

Leg: a part of Fact → Inventory (parsing) and of resolve (matching). Never guesses: what the API server's own
validation would refuse (unknown operator, `In` without values, malformed keys) is refused with its field,
because a selector read wrongly steers somebody else's pods. `NotIn` and `DoesNotExist` match absent labels,
as in k8s.io/apimachinery `labels.Requirement.Matches`.
"""

import enum
import re
from collections.abc import Mapping

import msgspec

from ebbgate_resolver.core import answers

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_PREFIX_MAX = 253


class Operator(enum.StrEnum):
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class Requirement(msgspec.Struct, frozen=True):
    key: str
    operator: Operator
    values: frozenset[str] = frozenset()


class Selector(msgspec.Struct, frozen=True):
    """All requirements must hold; without any, everything matches."""

    requirements: tuple[Requirement, ...] = ()


class ExpressionSpec(msgspec.Struct, frozen=True):
    key: str
    operator: str
    values: list[str] | None = None


class SelectorSpec(msgspec.Struct, frozen=True, rename="camel"):
    """Kubernetes' LabelSelector as it is written."""

    match_labels: dict[str, str] | None = None
    match_expressions: list[ExpressionSpec] | None = None


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    # all() with a generator takes twice as long, and this is where a resolver's time goes.
    return False not in [_holds(requirement, labels) for requirement in selector.requirements]


def _holds(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    """
    | operator | label absent | value listed | value not listed |
    |---|---|---|---|
    | In | no | yes | no |
    | NotIn | yes | no | yes |
    | Exists | no | yes, any value | yes, any value |
    | DoesNotExist | yes | no | no |
    """
    value = labels.get(requirement.key)
    match requirement.operator:
        case Operator.IN:
            return value in requirement.values
        case Operator.NOT_IN:
            return value not in requirement.values
        case Operator.EXISTS:
            return value is not None
        case Operator.DOES_NOT_EXIST:
            return value is None


def parse(spec: SelectorSpec, field: str) -> Selector:
    """Raises answers.Refusal, with a path that begins with `field`."""
    labels = sorted((spec.match_labels or {}).items())
    equalities = tuple(_equality(key, value, f"{field}.matchLabels") for key, value in labels)
    expressions = tuple(
        _expression(expression, f"{field}.matchExpressions[{i}]")
        for i, expression in enumerate(spec.match_expressions or ())
    )
    return Selector(equalities + expressions)


def _equality(key: str, value: str, field: str) -> Requirement:
    _check_key(key, field)
    _check_value(value, f"{field}[{key}]")
    return Requirement(key, Operator.IN, frozenset((value,)))


def _expression(spec: ExpressionSpec, field: str) -> Requirement:
    _check_key(spec.key, f"{field}.key")
    if spec.operator not in list(Operator):
        known = ", ".join(Operator)
        raise answers.Refusal(f"{field}.operator", f"unknown operator {spec.operator!r}; use one of {known}")
    operator = Operator(spec.operator)
    values = spec.values or []
    if operator in (Operator.IN, Operator.NOT_IN) and not values:
        raise answers.Refusal(f"{field}.values", f"operator {operator} needs at least one value")
    if operator in (Operator.EXISTS, Operator.DOES_NOT_EXIST) and values:
        raise answers.Refusal(f"{field}.values", f"operator {operator} takes no values; remove them")
    for i, value in enumerate(values):
        _check_value(value, f"{field}.values[{i}]")
    return Requirement(spec.key, operator, frozenset(values))


def _check_key(key: str, field: str) -> None:
    prefix, slash, name = key.rpartition("/")
    good_prefix = not slash or (len(prefix) <= _PREFIX_MAX and _PREFIX.fullmatch(prefix))
    if not (good_prefix and _NAME.fullmatch(name)):
        raise answers.Refusal(field, f"{key!r} is not a label key ([prefix/]name, name at most 63 letters)")


def _check_value(value: str, field: str) -> None:
    if value and not _NAME.fullmatch(value):
        raise answers.Refusal(
            field, f"{value!r} is not a label value (at most 63 of A-Z a-z 0-9 - _ ., ends alphanumeric)"
        )
