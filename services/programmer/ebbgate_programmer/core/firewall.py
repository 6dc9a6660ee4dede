"""nftables: the static chains as text, and changes of sets as one transaction. Part of lowering.

nft says who is steered, does the NAT and guards; BPF says where to. The same rules stand twice, for IPv4 and
IPv6. The guards have tables of their own, and are first in and last out: a route, rule, program or table that
somebody takes away must drop packets, never let them leave with another address. Each rule carries a comment
`<name>:<hash of its text>`: actual and wanted chains are compared by these, as nft's way of printing a rule
differs from version to version and from what was written.
"""

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from ebbgate_programmer.core import addresses, marks, places
from ebbgate_programmer.core.kernelstate import KernelState

MAX_ENDPOINTS, MAX_CLUSTER, MAX_SLOTS = 65536, 65536, 4096
"""Declared: a hash set that grows while it is dumped gives duplicates. As bpf/ebbgate.h, and 12 bits."""

FAMILIES = {"ip": "ipv4", "ip6": "ipv6"}
"""nft's word → ours."""
TABLES = tuple((family, table) for family in FAMILIES for table in (places.NFT_TABLE, places.NFT_GUARD))
_MAIN, _GUARD = places.NFT_TABLE, places.NFT_GUARD
_DEVICE = places.DEVICE
_MASK, _KEEP, _SLOTS = hex(marks.MASK), hex(marks.KEEP), hex(marks.SLOT_BITS)


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
    return tuple(chain for family in FAMILIES for chain in _chains(family, port))


def _chains(ip: str, port: int) -> tuple[Chain, ...]:
    return (
        Chain(ip, _MAIN, "raw_in", _hook("filter", "prerouting", -300), _raw_in(port)),
        Chain(ip, _MAIN, "raw_out", _hook("filter", "output", -300), _untracked(port, "")),
        Chain(ip, _MAIN, "steer", _hook("filter", "prerouting", -90), _steer(ip)),
        Chain(ip, _MAIN, "arriving", "", _ARRIVING),
        Chain(ip, _MAIN, "passing", _hook("filter", "forward", -150), _passing(ip, port)),
        Chain(ip, _MAIN, "local", _hook("route", "output", -150), _LOCAL),
        Chain(ip, _MAIN, "translate", _hook("nat", "postrouting", -199), _translate(ip)),
        Chain(ip, _GUARD, "unseen", _hook("filter", "forward", -149), _unseen(ip)),
        Chain(ip, _GUARD, "leaving", _hook("filter", "postrouting", 110), _leaving(ip)),
        Chain(ip, _GUARD, "marked", "", _marked(ip)),
    )


def signature(wanted: Sequence[Chain]) -> tuple[str, ...]:
    """Lines that tell whether the static part is in place; `firewall_reading` has the same from nft."""
    lines = [chain_line(chain.family, chain.table, chain.name, chain.hook) for chain in wanted]
    for chain in wanted:
        lines += [
            rule_line((chain.family, chain.table, chain.name), number, comment(*rule))
            for number, rule in enumerate(chain.rules)
        ]
    lines += [set_line(*each.place, each.size) for each in SETS]
    return tuple(sorted(lines))


def chain_line(family: str, table: str, name: str, hook: str) -> str:
    return f"{family} {table} {name} {hook}"


def rule_line(chain: tuple[str, str, str], number: int, text: str) -> str:
    return f"{' '.join(chain)} {number:02} {text}"


def set_line(family: str, table: str, name: str, size: int) -> str:
    return f"{family} {table} set {name} {size}"


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
    """What must go out of the sets of `before` and what must come in, to make them those of `after`."""
    # Pods that stay are left out before they are written as elements: there may be many, and few change.
    common = before.covered & after.covered
    before = msgspec.structs.replace(before, covered=before.covered - common)
    after = msgspec.structs.replace(after, covered=after.covered - common)
    pairs = list(zip(elements(before), elements(after), strict=True))
    removed = [_without(old, new) for old, new in pairs]
    added = [_without(new, old) for old, new in pairs]
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
    of_pods = tuple(
        each
        for table in (_MAIN, _GUARD)
        for each in (
            Set(ip, table, "covered", f"type {address}", MAX_ENDPOINTS),
            Set(ip, table, "cluster", f"type {address}; flags interval", MAX_CLUSTER),
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
    """The sets' contents, sorted, in the order of SETS."""
    return tuple(held for ip in FAMILIES for held in _elements_of(state, ip))


def _elements_of(state: KernelState, ip: str) -> tuple[Elements, ...]:
    """`leaving` and `zones` say again what `egress` says, and the guard's table what the main one says."""
    family = FAMILIES[ip]
    covered = tuple(sorted(pod for pod in state.covered if addresses.family(pod) == family))
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


def _set_mark(field: int) -> str:
    return f"meta mark set meta mark & {_KEEP} | {field:#x}"


Rules = tuple[tuple[str, str], ...]


def _raw_in(port: int) -> Rules:
    return (
        *_untracked(port, "fib daddr type local "),
        # A connection that goes on under another slot is another one here: it gets the other egress IP.
        (
            "zone",
            f'iifname "{_DEVICE}" meta mark & {_SLOTS} != 0 '
            f"ct original zone set meta mark & {_MASK} map @zones",
        ),
    )


def _untracked(port: int, which: str) -> Rules:
    # The outer packets are many and say nothing to conntrack; tracked, each peer would cost an entry.
    return (("outer", f"udp dport {port} {which}notrack"),)


def _outward(ip: str) -> str:
    """From a covered pod to where policies count. The source first: a hash tells most packets at once."""
    return f"{ip} saddr @covered {_never(ip).replace('daddr', 'daddr !=')} {ip} daddr != @cluster"


def _never(ip: str) -> str:
    return f"{ip} daddr {{ {', '.join(places.NEVER[FAMILIES[ip]])} }}"


def _steer(ip: str) -> Rules:
    return (
        ("tunnel", f'iifname "{_DEVICE}" goto arriving'),
        # Once classified, a connection needs no second look: if its fate changes, its entry goes.
        (
            "steered",
            f"ct direction original ct mark & {_MASK} == {marks.STEERED:#x} {_set_mark(marks.STEER)} accept",
        ),
        # On the gateway: the answer to a connection that came by the tunnel goes back by it.
        ("reply", f"ct direction reply ct mark & {_SLOTS} != 0 {_set_mark(marks.REPLY)} accept"),
        # Replies of connections that others opened to a pod are never steered.
        ("answer", f"ct direction reply {ip} saddr @covered {_set_mark(marks.PASSED)} accept"),
        ("inbound", "ct direction reply accept"),
        # Also what conntrack calls invalid: left alone it would leave with the pod's own address.
        ("covered", f"{_outward(ip)} {_set_mark(marks.RECLASS)}"),
    )


_ARRIVING: Rules = (
    ("answer", f"meta mark & {_SLOTS} == 0 ct direction reply accept"),
    # An answer to nothing: its connection was forgotten here, the next packet from the pod begins it anew.
    ("stray", f"meta mark & {_SLOTS} == 0 drop"),
    ("invalid", "ct state invalid,untracked drop"),
    # Only for what comes from the tunnel the whole mark is ours: nft 1.0.6 can't merge a variable into one.
    ("slot", "ct state new ct mark set meta mark"),
    # From here on conntrack knows the slot, and the mark can say by which uplink the packet leaves.
    ("uplink", f"meta mark set meta mark & {_MASK} map @uplinks"),
)

_LOCAL: Rules = (
    # The tunnel's own packets, above all.
    ("untracked", "ct state untracked accept"),
    # What the node itself says about a flow (ICMP too big, TCP reset) goes where the flow goes.
    ("answer", f"ct direction reply ct mark & {_SLOTS} != 0 {_set_mark(marks.REPLY)}"),
    ("slot", f"ct direction original ct mark & {_SLOTS} != 0 meta mark set ct mark & {_MASK}"),
    ("uplink", f"ct direction original ct mark & {_SLOTS} != 0 meta mark set ct mark & {_MASK} map @uplinks"),
    ("steered", f"ct direction original ct mark & {_MASK} == {marks.STEERED:#x} {_set_mark(marks.STEER)}"),
)


def _translate(ip: str) -> Rules:
    return (
        # `accept` here wouldn't stop a later masquerade; a translation into itself does.
        ("tunnel", f'oifname "{_DEVICE}" snat to {ip} saddr'),
        ("slot", f"ct mark & {_SLOTS} != 0 snat {ip} to ct mark & {_MASK} map @egress fully-random"),
        # A pod on its own gateway: no conntrack mark yet, and the classifier's mark is the slot.
        ("local", f"meta mark & {_SLOTS} != 0 snat {ip} to meta mark & {_MASK} map @egress fully-random"),
    )


def _passing(ip: str, port: int) -> Rules:
    return (
        ("mss", f'oifname "{_DEVICE}" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu'),
        # A pod's own "tunnel packet", masqueraded, would come from a peer's address.
        ("forged", f"udp dport {port} {ip} daddr @cluster drop"),
    )


def _unseen(ip: str) -> Rules:
    """Of a covered pod every packet that leaves the cluster was marked by somebody, or isn't to leave."""
    return (
        ("marked", f"meta mark & {_MASK} != 0 accept"),
        ("inbound", "ct direction reply accept"),
        ("unseen", f"{_outward(ip)} counter drop"),
    )


def _leaving(ip: str) -> Rules:
    """Most packets of a node have no mark of ours, and no connection of ours: they are let go first."""
    return (
        ("marked", f"meta mark & {_MASK} != 0 goto marked"),
        ("untracked", "ct state untracked accept"),
        ("elsewhere", f"ct direction original ct mark & {_MASK} == {marks.STEERED:#x} counter drop"),
        ("source", _wrong_source(ip)),
        # Where the connection is forgotten it would look like a stranger's, and the pod's own address answer.
        ("elsewhere", f"ct direction reply ct mark & {_SLOTS} != 0 counter drop"),
    )


def _wrong_source(ip: str) -> str:
    """Of what came by the tunnel: conntrack knows the slot."""
    slot = f"ct direction original ct mark & {_SLOTS} != 0 ct mark & {_MASK}"
    return f"{slot} . {ip} saddr != @leaving counter drop"


def _marked(ip: str) -> Rules:
    """What is as it must be goes first: all but a few packets."""
    return (
        (
            "steered",
            f'oifname "{_DEVICE}" meta mark & {_MASK} == {marks.STEER:#x} ct direction original '
            f"ct mark set ct mark & {_KEEP} | {marks.STEERED:#x} accept",
        ),
        ("tunnel", f'oifname "{_DEVICE}" accept'),
        ("translated", f"ct direction original ct mark & {_MASK} . {ip} saddr @leaving accept"),
        # Reports of multicast groups: the kernel keeps another number where a packet's mark is.
        ("never", f"{_never(ip)} accept"),
        ("elsewhere", f"ct direction original ct mark & {_MASK} == {marks.STEERED:#x} counter drop"),
        (
            "unrouted",
            f"meta mark & {_MASK} {{ {marks.STEER:#x}, {marks.RECLASS:#x}, {marks.REPLY:#x} }} counter drop",
        ),
        ("source", _wrong_source(ip)),
        (
            "untranslated",
            f"meta mark & {_SLOTS} != 0 meta mark & {_MASK} . {ip} saddr != @leaving counter drop",
        ),
        (
            "local",
            f"meta mark & {_SLOTS} != 0 ct direction original ct mark & {_MASK} == 0 "
            f"ct mark set ct mark & {_KEEP} | {marks.LOCAL:#x}",
        ),
    )
