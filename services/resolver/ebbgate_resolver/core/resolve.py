"""resolve(inventory, previous) → Resolution: what PLAN should hold. The reference, in full, each time.

Leg: Inventory ─resolve▶ Rows. `previous` is what PLAN holds, and only slots, versions in force and gated
paths are taken from it: from the same pair come the same rows, in any order of arrival. Fail closed: what has
no gateway or no egress IP gets rows that drop, never none. An egress row that isn't needed any more is
`retained`, apart from the others, since only the engine knows whether all sources have let go of it.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ebbgate_bus.contracts import codec, rows, subjects
from ebbgate_bus.contracts.message import Message
from ebbgate_resolver.core import answers, inventory
from ebbgate_resolver.core.plan import held
from ebbgate_resolver.core.rules import (
    endpoints,
    gate,
    gateways,
    groups,
    policies,
    routes,
    slots,
    surroundings,
    versions,
)


class Previous(msgspec.Struct, frozen=True):
    """`reserved`: freed slots that must not be used yet, with the egress IP that they had, or ""."""

    held: held.Held
    reserved: Mapping[slots.Place, str] = {}


class Resolution(msgspec.Struct, frozen=True):
    """`wanted`, `retained`: subject → payload. The rest is why, for verdicts and logs; by policy name."""

    wanted: dict[str, bytes]
    retained: dict[str, bytes]
    versions: versions.Versions
    chosen: dict[str, tuple[gateways.Gateway, ...]]
    matched: endpoints.Matched
    groups: dict[str, rows.Group]
    conflicts: tuple[routes.Conflict, ...] = ()
    slotless: frozenset[slots.Wish] = frozenset()
    of_nodes: tuple[answers.Note, ...] = ()


def resolve(known: inventory.Inventory, previous: Previous, setting: Iterable[str] = ()) -> Resolution:
    """`setting`: CIDRs that are never steered, besides those found."""
    held_ = previous.held
    judged = versions.judge(known, held_.policies)
    chosen = {name: gateways.choose(policy, known) for name, policy in judged.in_force.items()}
    wishes = groups.wishes(chosen)
    assigned = slots.assign(wishes, held_.egress, previous.reserved)
    standing = groups.Standing(gate.Gate(known, held_.egress), assigned, held_.groups)
    grouped = {
        name: groups.group_row(policy, chosen[name], standing) for name, policy in judged.in_force.items()
    }
    matched = endpoints.match(known, judged.in_force)
    sets, conflicts = _set_rows(matched.sets)
    messages: dict[str, Message] = {
        **{subjects.policy_in_force(name): row for name, row in judged.kept.items()},
        **surroundings.peers(known),
        **surroundings.clusters(known, setting),
        **{subjects.group(judged.in_force[name].uid): row for name, row in grouped.items()},
        **sets,
        **matched.endpoints,
        **groups.egress_rows(chosen, assigned),
    }
    wanted = {subject: codec.encode(message) for subject, message in sorted(messages.items())}
    return Resolution(
        wanted=wanted,
        retained=_retained(wanted, held_),
        versions=judged,
        chosen=chosen,
        matched=matched,
        groups=grouped,
        conflicts=conflicts,
        slotless=frozenset(wishes - assigned.keys()),
        of_nodes=tuple(
            note for name in sorted(known.nodes) for note in surroundings.notes_of_node(name, known)
        ),
    )


def _set_rows(
    sets: Mapping[str, tuple[policies.Policy, ...]],
) -> tuple[dict[str, rows.Routes], tuple[routes.Conflict, ...]]:
    found: dict[str, rows.Routes] = {}
    conflicts: set[routes.Conflict] = set()
    for set_id, members in sorted(sets.items()):
        merged, lost = routes.merge(members)
        conflicts.update(lost)
        for chunk, row in routes.chunks(members, merged).items():
            found[subjects.routes(set_id, chunk)] = row
    return found, tuple(sorted(conflicts))


def _retained(wanted: Mapping[str, bytes], held_: held.Held) -> dict[str, bytes]:
    all_held = (subjects.egress(node, slot) for node, slot in sorted(held_.egress))
    return {subject: held_.rows[subject] for subject in all_held if subject not in wanted}


def notes(resolution: Resolution) -> list[answers.Note]:
    """The state in lines: what is rejected, what can't be resolved for now, what was ignored."""
    return [
        *(note_of_rejected(name, why) for name, why in sorted(resolution.versions.rejected.items())),
        *(
            note
            for name, found in sorted(resolution.chosen.items())
            for note in notes_of_gateways(name, found)
        ),
        *resolution.of_nodes,
        *map(note_of_slotless, sorted(resolution.slotless)),
        *map(note_of_conflict, resolution.conflicts),
        *resolution.matched.notes,
    ]


def note_of_rejected(policy: str, why: answers.Rejected) -> answers.Note:
    return answers.note("policy.rejected", policy=policy, field=why.field, reason=why.reason)


def notes_of_gateways(policy: str, found: Sequence[gateways.Gateway]) -> list[answers.Note]:
    if any(gateway.egress for gateway in found):
        return []
    reason = "no egress IP on its gateways" if found else "no node matches its gateway"
    return [answers.note("policy.unresolved", policy=policy, reason=reason)]


def note_of_slotless(wish: slots.Wish) -> answers.Note:
    return answers.note("slots.exhausted", node=wish[0], egress_ip=wish[1])


def note_of_conflict(lost: routes.Conflict) -> answers.Note:
    return answers.note("route.lost", policy=lost.loser, winner=lost.winner, cidr=lost.cidr)
