"""Which version of each policy is in force: the latest if it is good, else the last good one.

Leg: a part of Inventory → Rows. The last good version has its home in PLAN (`plan.policy.<name>`), written in
the same revision as the rows that it causes. It counts while the uid agrees: another uid is another policy
that has the name by now. Rows are named by uids, so two policies with one (a copied manifest) can't both be
in force: the one that PLAN holds has it, so that a copy takes nothing from the one that works. When that one
goes its rows go first, in a revision of their own, and only then the other gets rows of the same names.
"""

from collections.abc import Mapping

import msgspec

from ebbgate_bus.contracts import facts, rows, subjects
from ebbgate_resolver.core import answers, inventory
from ebbgate_resolver.core.rules import policies


class Versions(msgspec.Struct, frozen=True):
    """By policy name. `kept`: the version in force, as it is to be held in PLAN."""

    in_force: dict[str, policies.Policy] = {}
    rejected: dict[str, answers.Rejected] = {}
    kept: dict[str, rows.PolicyInForce] = {}


Parsed = Mapping[str, policies.Policy | answers.Rejected]
"""The latest versions, by name, each judged by itself."""


def judge(known: inventory.Inventory, held: Mapping[str, rows.PolicyInForce]) -> Versions:
    versions = Versions()
    parsed = {name: policies.parse(fact, name) for name, fact in known.policies.items()}
    owners = _owners(known, held, parsed)
    for name, fact in sorted(known.policies.items()):
        owner = owners.get(fact.uid, name)
        if owner == name:
            _judge_one(versions, name, fact, (parsed[name], held.get(name)))
        else:
            versions.rejected[name] = _taken(fact.uid, owner)
    for name, row in sorted(held.items()):
        if name not in known.policies and not _is_gone(known, name) and owners[row.uid] == name:
            _put_in_force(versions, name, row)
    return versions


def _owners(
    known: inventory.Inventory, held: Mapping[str, rows.PolicyInForce], parsed: Parsed
) -> dict[str, str]:
    """uid → name of the policy that has it: of those that PLAN holds, else of the good ones, the first."""
    owners: dict[str, str] = {}
    for name, row in sorted(held.items()):
        owners.setdefault(row.uid, name)
    for name, fact in sorted(known.policies.items()):
        if isinstance(parsed[name], policies.Policy):
            owners.setdefault(fact.uid, name)
    return owners


def _taken(uid: str, owner: str) -> answers.Rejected:
    reason = f"{uid} is the uid of policy {owner}, which has it already; leave it out of a copied manifest"
    return answers.Rejected("metadata.uid", reason)


def _is_gone(known: inventory.Inventory, name: str) -> bool:
    """One that hasn't been listed yet isn't gone, nor one whose fact can't be read."""
    return known.complete and subjects.fact("policy", name) not in known.unreadable


def _judge_one(
    versions: Versions,
    name: str,
    fact: facts.Policy,
    both: tuple[policies.Policy | answers.Rejected, rows.PolicyInForce | None],
) -> None:
    """`both`: the latest version, and the one that PLAN holds.

    | latest version | last good version, same uid | in force |
    |---|---|---|
    | good | - | the latest |
    | rejected | held | the last good one |
    | rejected | none | none |
    """
    parsed, held = both
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
