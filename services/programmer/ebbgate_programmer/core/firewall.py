"""nftables: the static chains as text, and changes of sets as one transaction. Part of lowering.

nft says who is steered, does the NAT and guards; BPF says where to. The same rules stand twice, for IPv4 and
IPv6. The guards have tables of their own, and are first in and last out: a route, rule, program or table that
somebody takes away must drop packets, never let them leave with another address. Each rule carries a comment
`<name>:<hash of its text>`: actual and wanted chains are compared by these, as nft's way of printing a rule
differs from version to version and from what was written.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ebbgate_programmer.core import addresses, firewall_rules, marks, places, sharded, signature_lines
from ebbgate_programmer.core.kernelstate import KernelState

MAX_ENDPOINTS, MAX_CLUSTER, MAX_SLOTS = 65536, 65536, 4096
"""Declared: a hash set that grows while it is dumped gives duplicates. As bpf/ebbgate.h, and 12 bits."""

_MAIN, _GUARD = places.NFT_TABLE, places.NFT_GUARD
TABLES = tuple((family, table) for family in places.NFT_FAMILIES for table in (_MAIN, _GUARD))


class Chain(msgspec.Struct, frozen=True, gc=False):
    """`hook`: type, hook and priority as nft writes them, empty for a chain that is only jumped to.
    `rules`: (name, text).
    """

    family: str
    table: str
    name: str
    hook: str
    rules: tuple[tuple[str, str], ...]


class Elements(msgspec.Struct, frozen=True, gc=False):
    """What a set or map of a table holds, as nft writes elements."""

    family: str
    table: str
    name: str
    elements: tuple[str, ...]

    @property
    def place(self) -> tuple[str, str, str]:
        return (self.family, self.table, self.name)


def chains(port: int) -> tuple[Chain, ...]:
    """The static part: the same on every node of this version."""
    return tuple(chain for family in places.NFT_FAMILIES for chain in _chains(family, port))


def _chains(ip: str, port: int) -> tuple[Chain, ...]:
    return (
        Chain(ip, _MAIN, "raw_in", _hook("filter", "prerouting", -300), firewall_rules.raw_in(port)),
        Chain(ip, _MAIN, "raw_out", _hook("filter", "output", -300), firewall_rules.untracked(port, "")),
        Chain(ip, _MAIN, "steer", _hook("filter", "prerouting", -90), firewall_rules.steer(ip)),
        Chain(ip, _MAIN, "arriving", "", firewall_rules.ARRIVING),
        Chain(ip, _MAIN, "passing", _hook("filter", "forward", -150), firewall_rules.passing(ip, port)),
        Chain(ip, _MAIN, "local", _hook("route", "output", -150), firewall_rules.LOCAL),
        Chain(ip, _MAIN, "translate", _hook("nat", "postrouting", -199), firewall_rules.translate(ip)),
        Chain(ip, _GUARD, "unseen", _hook("filter", "forward", -149), firewall_rules.unseen(ip)),
        Chain(ip, _GUARD, "leaving", _hook("filter", "postrouting", 110), firewall_rules.leaving(ip)),
        Chain(ip, _GUARD, "marked", "", firewall_rules.marked(ip)),
    )


def signature(wanted: Sequence[Chain]) -> tuple[str, ...]:
    """Lines that tell whether the static part is in place; `firewall_reading` has the same from nft."""
    lines = [signature_lines.of_chain(chain.family, chain.table, chain.name, chain.hook) for chain in wanted]
    for chain in wanted:
        lines += [
            signature_lines.of_rule((chain.family, chain.table, chain.name), number, comment(*rule))
            for number, rule in enumerate(chain.rules)
        ]
    lines += [signature_lines.of_set(*each.place, each.size) for each in SETS]
    return tuple(sorted(lines))


def comment(name: str, text: str) -> str:
    return f"{name}:{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def rebuild(wanted: Sequence[Chain], keep: KernelState) -> str:
    """All tables anew in one transaction, holding the elements of `keep`: what the kernel had until now.

    Declaring before deleting makes the deletion succeed on a node that never had the table.
    """
    head = [f"table {family} {table} {{ }}" for family, table in TABLES]
    head += [f"delete table {family} {table}" for family, table in TABLES]
    body = [_table(family, table, wanted) for family, table in TABLES]
    fill = [line for held in elements(keep) for line in _elements("add", held)]
    return "\n".join((*head, *body, *fill)) + "\n"


def elements_between(
    before: KernelState, after: KernelState
) -> tuple[tuple[Elements, ...], tuple[Elements, ...]]:
    """What must go out of the sets of `before` and what must come in, to make them those of `after`. Pods
    that go out of `covered` come into places.LEFT.
    """
    # What stays is left out before it is written as elements: there may be many, and few change.
    come, gone = sharded.added(after.covered, before.covered), sharded.added(before.covered, after.covered)
    slots_stay = (before.egress, before.uplinks) == (after.egress, after.uplinks)
    alike: dict[str, Any] = {"egress": {}, "uplinks": {}} if slots_stay else {}
    if before.cluster == after.cluster:
        alike["cluster"] = frozenset()
    before = msgspec.structs.replace(before, covered=frozenset(gone), **alike)
    after = msgspec.structs.replace(after, covered=frozenset(come), **alike)
    pairs = list(zip(elements(before), elements(after), strict=True))
    removed = [_without(old, new) for old, new in pairs]
    added = [_without(new, old) for old, new in pairs]
    added += [
        Elements(held.family, held.table, places.LEFT, held.elements)
        for held in removed
        if held.name == "covered"
    ]
    return tuple(held for held in removed if held.elements), tuple(held for held in added if held.elements)


def update(removed: Iterable[Elements], added: Iterable[Elements]) -> str:
    """As commands, removals first: a changed element of a map is the one and then the other."""
    lines = [line for held in removed for line in _elements("delete", held)]
    lines += [line for held in added for line in _elements("add", held)]
    return "".join(f"{line}\n" for line in lines)


class Set(msgspec.Struct, frozen=True, gc=False):
    """`form`: its type, as nft writes it; one with a colon is a map."""

    family: str
    table: str
    name: str
    form: str
    size: int

    @property
    def place(self) -> tuple[str, str, str]:
        return (self.family, self.table, self.name)


def _sets(ip: str, address: str) -> tuple[Set, ...]:
    left = f"type {address}; flags timeout; timeout {places.LEFT_FOR}"
    of_pods = tuple(
        each
        for table in (_MAIN, _GUARD)
        for each in (
            Set(ip, table, "covered", f"type {address}", MAX_ENDPOINTS),
            Set(ip, table, "cluster", f"type {address}; flags interval", MAX_CLUSTER),
            Set(ip, table, places.LEFT, left, MAX_ENDPOINTS),
        )
    )
    return (
        *of_pods,
        Set(ip, _MAIN, "egress", f"type mark : {address}", MAX_SLOTS),
        Set(ip, _MAIN, "zones", "typeof meta mark : ct zone", MAX_SLOTS),
        Set(ip, _MAIN, "uplinks", "type mark : mark", MAX_SLOTS),
        Set(ip, _GUARD, "leaving", f"type mark . {address}", MAX_SLOTS),
    )


SETS = (*_sets("ip", "ipv4_addr"), *_sets("ip6", "ipv6_addr"))


def elements(state: KernelState) -> tuple[Elements, ...]:
    """The sets' contents, sorted, in the order of SETS; of places.LEFT none."""
    return tuple(held for ip in places.NFT_FAMILIES for held in _elements_of(state, ip))


def _elements_of(state: KernelState, ip: str) -> tuple[Elements, ...]:
    """`leaving` and `zones` say again what `egress` says, and the guard's table what the main one says."""
    family = places.NFT_FAMILIES[ip]
    # Written out: there may be tens of thousands.
    covered = tuple(sorted([pod for pod in state.covered if (":" in pod) == (family == "ipv6")]))
    cluster = tuple(sorted(cidr for cidr in state.cluster if addresses.family(cidr) == family))
    of_pods = tuple(
        Elements(ip, table, name, held)
        for table in (_MAIN, _GUARD)
        for name, held in (("covered", covered), ("cluster", cluster))
    )
    slots = [(slot, at) for slot, at in sorted(state.egress.items()) if addresses.family(at) == family]
    marked = [(hex(marks.mark_of(slot)), at) for slot, at in slots]
    ways = [(slot, state.uplinks[slot]) for slot, _ in slots if slot in state.uplinks]
    return (
        *of_pods,
        Elements(ip, _MAIN, "egress", tuple(f"{mark} : {at}" for mark, at in marked)),
        Elements(ip, _MAIN, "zones", tuple(_zone(slot) for slot, _ in slots)),
        Elements(ip, _MAIN, "uplinks", tuple(_uplink(*way) for way in ways)),
        Elements(ip, _GUARD, "leaving", tuple(f"{mark} . {at}" for mark, at in marked)),
    )


def _zone(slot: int) -> str:
    return f"{marks.mark_of(slot):#x} : {zone_of(slot)}"


def zone_of(slot: int) -> int:
    """Of conntrack, for what pods send by this slot."""
    return places.ZONE + slot


def _uplink(slot: int, number: int) -> str:
    return f"{marks.mark_of(slot):#x} : {marks.mark_of(number):#x}"


def _without(these: Elements, others: Elements) -> Elements:
    if not others.elements:
        return these
    absent = frozenset(others.elements)
    left = tuple(text for text in these.elements if text not in absent)
    return Elements(*these.place, left)


def _elements(verb: str, held: Elements) -> list[str]:
    # A thousand a command: nft's parser and the kernel's message buffers cope with that on any version.
    chunks = [held.elements[start : start + 1000] for start in range(0, len(held.elements), 1000)]
    return [f"{verb} element {' '.join(held.place)} {{ {', '.join(chunk)} }}" for chunk in chunks]


def _table(family: str, table: str, wanted: Iterable[Chain]) -> str:
    lines = [f"table {family} {table} {{"]
    for each in SETS:
        if each.place[:2] == (family, table):
            kind = "map" if ":" in each.form else "set"
            lines.append(f"  {kind} {each.name} {{ {each.form}; size {each.size}; }}")
    for chain in wanted:
        if (chain.family, chain.table) == (family, table):
            lines += _chain(chain)
    return "\n".join((*lines, "}"))


def _chain(chain: Chain) -> list[str]:
    hook = [f"    {_declaration(chain.hook)}"] if chain.hook else []
    rules = [f'    {text} comment "{comment(name, text)}"' for name, text in chain.rules]
    return [f"  chain {chain.name} {{", *hook, *rules, "  }"]


def _hook(kind: str, hook: str, priority: int) -> str:
    return f"{kind} {hook} {priority}"


def _declaration(hook: str) -> str:
    kind, name, priority = hook.split()
    return f"type {kind} hook {name} priority {priority}; policy accept;"
