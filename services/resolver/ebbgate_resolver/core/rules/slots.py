"""Slots: small numbers that name the egress IPs of a gateway, one for each IP.

Leg: a part of Inventory → Rows. A slot is kept while it is in PLAN, whatever else changes, since packets in
flight and connections carry it; a new one is the first free place of a probe sequence that starts at the
hash of the egress IP, so that a resolver that starts from nothing mostly finds the same numbers again. A
freed slot is reserved for a while, except for the egress IP it had: a source that missed the change would
otherwise send its traffic out with another's address.
"""

from collections.abc import Iterable, Mapping

from ebbgate_bus.contracts import digests, rows

Place = tuple[str, int]
"""Gateway node and slot."""
Wish = tuple[str, str]
"""Gateway node and egress IP."""

_SLOTS = rows.SLOT_MAX - rows.SLOT_MIN + 1


def assign(
    wishes: Iterable[Wish], held: Mapping[Place, rows.Egress], reserved: Mapping[Place, str]
) -> dict[Wish, int]:
    """Wishes that find no free slot are absent. `reserved`: freed slots → egress IP they had, or ""."""
    taken = {place: row.egress_ip for place, row in held.items()}
    kept = {(node, ip): slot for (node, slot), ip in sorted(taken.items(), reverse=True)}
    assigned: dict[Wish, int] = {}
    for node, ip in sorted(set(wishes)):
        slot = kept.get((node, ip)) or _free((node, ip), taken, reserved)
        if slot is not None:
            assigned[node, ip] = slot
            taken[node, slot] = ip
    return assigned


def _free(wish: Wish, taken: Mapping[Place, str], reserved: Mapping[Place, str]) -> int | None:
    node, ip = wish
    start = digests.bucket(ip, _SLOTS)
    for step in range(_SLOTS):
        slot = rows.SLOT_MIN + (start + step) % _SLOTS
        if (node, slot) not in taken and reserved.get((node, slot), ip) == ip:
            return slot
    return None
