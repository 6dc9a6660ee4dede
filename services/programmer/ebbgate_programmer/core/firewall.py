"""nftables: the static chains as text, and changes of sets as one transaction. Part of lowering.

nft says who is steered, does the NAT and guards; BPF says where to. The guards are first in and last out: a
route, rule or program that somebody takes away must drop packets, never let them leave with another address.
Each rule carries a comment `<name>:<hash of its text>`: actual and wanted chains are compared by these, as
nft's way of printing a rule differs from version to version and from what was written.
"""

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from ebbgate_programmer.core import marks, places
from ebbgate_programmer.core.kernelstate import KernelState

MAX_ENDPOINTS, MAX_CLUSTER, MAX_SLOTS = 65536, 65536, 4096
"""Declared: a hash set that grows while it is dumped gives duplicates. As bpf/ebbgate.h, and 12 bits."""

_DEVICE = places.DEVICE
_MASK, _KEEP, _SLOTS = hex(marks.MASK), hex(marks.KEEP), hex(marks.SLOT_BITS)


class Chain(msgspec.Struct, frozen=True, gc=False):
    """`hook`: type, hook and priority as nft writes them, empty for a chain that is only jumped to.
    `rules`: (name, text).
    """

    family: str
    name: str
    hook: str
    rules: tuple[tuple[str, str], ...]


class Elements(msgspec.Struct, frozen=True, gc=False):
    """What a set or map of a family holds, as nft writes elements."""

    family: str
    name: str
    elements: tuple[str, ...]


def chains(port: int) -> tuple[Chain, ...]:
    """The static part: the same on every node of this version."""
    return (
        Chain("ip", "raw_in", _hook("filter", "prerouting", -300), _untracked(port, "fib daddr type local ")),
        Chain("ip", "raw_out", _hook("filter", "output", -300), _untracked(port, "")),
        Chain("ip", "steer", _hook("filter", "prerouting", -90), _STEER_RULES),
        Chain("ip", "arriving", "", _ARRIVING_RULES),
        Chain("ip", "passing", _hook("filter", "forward", -150), _passing(port)),
        Chain("ip", "local", _hook("route", "output", -150), _LOCAL_RULES),
        Chain("ip", "translate", _hook("nat", "postrouting", -199), _TRANSLATE_RULES),
        Chain("ip", "guard", _hook("filter", "postrouting", 110), _GUARD_RULES),
        Chain("ip6", "guard", _hook("filter", "forward", -150), _GUARD6_RULES),
    )


def signature(wanted: Sequence[Chain]) -> tuple[str, ...]:
    """Lines that tell whether the static part is in place; `firewall_reading` has the same from nft."""
    lines = [f"{chain.family} {chain.name} {chain.hook}" for chain in wanted]
    for chain in wanted:
        lines += [
            rule_line(chain.family, chain.name, number, comment(*rule))
            for number, rule in enumerate(chain.rules)
        ]
    lines += [f"{family} set {name} {size}" for family, name, _, size in SETS]
    return tuple(sorted(lines))


def rule_line(family: str, chain: str, number: int, text: str) -> str:
    return f"{family} {chain} {number:02} {text}"


def comment(name: str, text: str) -> str:
    return f"{name}:{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def rebuild(wanted: Sequence[Chain], keep: KernelState) -> str:
    """Both tables anew in one transaction, holding the elements of `keep`: what the kernel had until now.

    Declaring before deleting makes the deletion succeed on a node that never had the table.
    """
    head = [f"table {family} {places.NFT_TABLE} {{ }}" for family in ("ip", "ip6")]
    head += [f"delete table {family} {places.NFT_TABLE}" for family in ("ip", "ip6")]
    body = [_table(family, wanted) for family in ("ip", "ip6")]
    fill = [line for held in elements(keep) for line in _elements("add", held)]
    return "\n".join((*head, *body, *fill)) + "\n"


def elements_between(
    before: KernelState, after: KernelState
) -> tuple[tuple[Elements, ...], tuple[Elements, ...]]:
    """What must go out of the sets of `before` and what must come in, to make them those of `after`."""
    pairs = list(zip(elements(before), elements(after), strict=True))
    removed = [_without(old, new) for old, new in pairs]
    added = [_without(new, old) for old, new in pairs]
    return tuple(held for held in removed if held.elements), tuple(held for held in added if held.elements)


def update(removed: Iterable[Elements], added: Iterable[Elements]) -> str:
    """As commands, removals first: a changed element of a map is the one and then the other."""
    lines = [line for held in removed for line in _elements("delete", held)]
    lines += [line for held in added for line in _elements("add", held)]
    return "".join(f"{line}\n" for line in lines)


SETS = (
    ("ip", "covered", "type ipv4_addr", MAX_ENDPOINTS),
    ("ip", "cluster", "type ipv4_addr; flags interval", MAX_CLUSTER),
    ("ip", "egress", "type mark : ipv4_addr", MAX_SLOTS),
    ("ip", "leaving", "type mark . ipv4_addr", MAX_SLOTS),
    ("ip", "slots", "type mark . mark", MAX_SLOTS),
    ("ip6", "covered", "type ipv6_addr", MAX_ENDPOINTS),
    ("ip6", "cluster", "type ipv6_addr; flags interval", MAX_CLUSTER),
)


def elements(state: KernelState) -> tuple[Elements, ...]:
    """The sets' contents, sorted; `leaving` and `slots` say again what `egress` says, for the guards."""
    slots = [(hex(marks.mark_of(slot)), ip) for slot, ip in sorted(state.egress.items())]
    return (
        Elements("ip", "covered", tuple(sorted(state.covered))),
        Elements("ip", "cluster", tuple(sorted(state.cluster))),
        Elements("ip", "egress", tuple(f"{mark} : {ip}" for mark, ip in slots)),
        Elements("ip", "leaving", tuple(f"{mark} . {ip}" for mark, ip in slots)),
        Elements("ip", "slots", tuple(f"{mark} . {mark}" for mark, _ in slots)),
        Elements("ip6", "covered", tuple(sorted(state.covered6))),
        Elements("ip6", "cluster", tuple(sorted(state.cluster6))),
    )


def _without(these: Elements, others: Elements) -> Elements:
    absent = frozenset(others.elements)
    return Elements(these.family, these.name, tuple(text for text in these.elements if text not in absent))


def _elements(verb: str, held: Elements) -> list[str]:
    # A thousand a command: nft's parser and the kernel's message buffers cope with that on any version.
    chunks = [held.elements[start : start + 1000] for start in range(0, len(held.elements), 1000)]
    target = f"{held.family} {places.NFT_TABLE} {held.name}"
    return [f"{verb} element {target} {{ {', '.join(chunk)} }}" for chunk in chunks]


def _table(family: str, wanted: Iterable[Chain]) -> str:
    lines = [f"table {family} {places.NFT_TABLE} {{"]
    for of, name, kind, size in SETS:
        if of == family:
            lines.append(f"  {'map' if ':' in kind else 'set'} {name} {{ {kind}; size {size}; }}")
    for chain in wanted:
        if chain.family == family:
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


def _set_mark(field: int) -> str:
    return f"meta mark set meta mark & {_KEEP} | {field:#x}"


def _untracked(port: int, which: str) -> tuple[tuple[str, str], ...]:
    # The outer packets are many and say nothing to conntrack; tracked, each peer would cost an entry.
    return (("outer", f"udp dport {port} {which}notrack"),)


_STEER_RULES = (
    ("tunnel", f'iifname "{_DEVICE}" goto arriving'),
    # On the gateway: the answer to a connection that came by the tunnel goes back by it.
    ("reply", f"ct direction reply ct mark & {_SLOTS} != 0 {_set_mark(marks.REPLY)} accept"),
    # Replies of connections that others opened to a pod are never steered.
    ("inbound", "ct direction reply accept"),
    # Loopback, link-local (with 169.254.169.254), multicast and broadcast.
    ("never", "ip daddr { 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3 } accept"),
    # Also what conntrack calls invalid: left alone it would leave with the pod's own address.
    ("covered", f"ip saddr @covered ip daddr != @cluster {_set_mark(marks.RECLASS)}"),
)

_ARRIVING_RULES = (
    ("answer", f"meta mark & {_SLOTS} == 0 ct direction reply accept"),
    # An answer to nothing: its connection was forgotten here, the next packet from the pod begins it anew.
    ("stray", f"meta mark & {_SLOTS} == 0 drop"),
    ("invalid", "ct state invalid,untracked drop"),
    # Only for what comes from the tunnel the whole mark is ours: nft 1.0.6 can't merge a variable into one.
    ("slot", "ct state new ct mark set meta mark"),
)

_LOCAL_RULES = (
    # What the node itself says about a flow (ICMP too big, TCP reset) goes where the flow goes.
    ("answer", f"ct direction reply ct mark & {_SLOTS} != 0 {_set_mark(marks.REPLY)}"),
    ("slot", f"ct direction original ct mark & {_SLOTS} != 0 meta mark set ct mark & {_MASK}"),
    ("steered", f"ct direction original ct mark & {_MASK} == {marks.STEERED:#x} {_set_mark(marks.STEER)}"),
)

_TRANSLATE_RULES = (
    # `accept` here wouldn't stop a later masquerade; a translation into itself does.
    ("tunnel", f'oifname "{_DEVICE}" snat to ip saddr'),
    ("slot", f"meta mark & {_SLOTS} != 0 snat ip to meta mark & {_MASK} map @egress fully-random"),
)

_GUARD_RULES = (
    (
        "steered",
        f'oifname "{_DEVICE}" meta mark & {_MASK} == {marks.STEER:#x} ct direction original '
        f"ct mark set ct mark & {_KEEP} | {marks.STEERED:#x} accept",
    ),
    ("tunnel", f'oifname "{_DEVICE}" accept'),
    ("elsewhere", f"ct direction original ct mark & {_MASK} == {marks.STEERED:#x} drop"),
    ("unrouted", f"meta mark & {_MASK} {{ {marks.STEER:#x}, {marks.RECLASS:#x}, {marks.REPLY:#x} }} drop"),
    ("source", f"meta mark & {_SLOTS} != 0 meta mark & {_MASK} . ip saddr != @leaving drop"),
    (
        "local",
        f"meta mark & {_SLOTS} != 0 ct direction original ct mark & {_MASK} == 0 "
        f"ct mark set ct mark & {_KEEP} | {marks.LOCAL:#x}",
    ),
)

_GUARD6_RULES = (
    ("inbound", "ct direction reply accept"),
    ("never", "ip6 daddr { ::1, fe80::/10, ff00::/8 } accept"),
    # Not steered yet: what can't leave with its egress IP must not leave at all.
    ("covered", "ip6 saddr @covered ip6 daddr != @cluster drop"),
)


def _passing(port: int) -> tuple[tuple[str, str], ...]:
    other = (
        f'iifname "{_DEVICE}" meta mark & {_SLOTS} != 0 ct direction original ct mark . meta mark != @slots'
    )
    return (
        ("mss", f'oifname "{_DEVICE}" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu'),
        # A pod's own "tunnel packet", masqueraded, would come from a peer's address.
        ("forged", f"udp dport {port} ip daddr @cluster drop"),
        # The connection began under another slot: it must end, not go on with the old egress IP.
        ("reset", f"{other} meta l4proto tcp reject with tcp reset"),
        ("other", f"{other} drop"),
    )
