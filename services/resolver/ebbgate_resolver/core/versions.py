"""Which version of each policy is in force: the latest if it is good, else the last good one.

Leg: a part of Inventory → Rows. The last good version has its home in PLAN (`plan.policy.<name>`), written in
the same revision as the rows that it causes. It counts while the uid agrees: another uid is another policy
that has the name by now.
"""

from collections.abc import Mapping

import msgspec

from ebbgate_bus.contracts import facts, rows, subjects
from ebbgate_resolver.core import answers, inventory, policies


class Versions(msgspec.Struct, frozen=True):
    """By policy name. `kept`: the version in force, as it is to be held in PLAN."""

    in_force: dict[str, policies.Policy] = {}
    rejected: dict[str, answers.Rejected] = {}
    kept: dict[str, rows.PolicyInForce] = {}


def judge(known: inventory.Inventory, held: Mapping[str, rows.PolicyInForce]) -> Versions:
    versions = Versions()
    for name, fact in sorted(known.policies.items()):
        _judge_one(versions, name, fact, held.get(name))
    for name, row in sorted(held.items()):
        if name not in known.policies and not _is_gone(known, name):
            _put_in_force(versions, name, row)
    return versions


def _is_gone(known: inventory.Inventory, name: str) -> bool:
    """One that hasn't been listed yet isn't gone, nor one whose fact can't be read."""
    return known.complete and subjects.fact("policy", name) not in known.unreadable


def _judge_one(versions: Versions, name: str, fact: facts.Policy, held: rows.PolicyInForce | None) -> None:
    """
    | latest version | last good version, same uid | in force |
    |---|---|---|
    | good | - | the latest |
    | rejected | held | the last good one |
    | rejected | none | none |
    """
    parsed = policies.parse(fact, name)
    if isinstance(parsed, policies.Policy):
        versions.in_force[name] = parsed
        versions.kept[name] = rows.PolicyInForce(
            uid=fact.uid, generation=fact.generation, created=fact.created, spec=fact.spec
        )
        return
    versions.rejected[name] = parsed
    if held is not None and held.uid == fact.uid:
        _put_in_force(versions, name, held)


def _put_in_force(versions: Versions, name: str, row: rows.PolicyInForce) -> None:
    parsed = policies.parse(row, name)
    if isinstance(parsed, policies.Policy):
        versions.in_force[name] = parsed
        versions.kept[name] = row
