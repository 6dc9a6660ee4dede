"""nftables: the rules as text, chain by chain. `firewall` says where the chains are hooked."""

from ebbgate_programmer.core import marks, places

Rules = tuple[tuple[str, str], ...]
"""(name, text), in order."""
_DEVICE = places.DEVICE
_MASK, _KEEP, _SLOTS = hex(marks.MASK), hex(marks.KEEP), hex(marks.SLOT_BITS)


def _set_mark(field: int) -> str:
    return f"meta mark set meta mark & {_KEEP} | {field:#x}"


def raw_in(port: int) -> Rules:
    return (
        *untracked(port, "fib daddr type local "),
        # A connection that goes on under another slot is another one here: it gets the other egress IP.
        (
            "zone",
            f'iifname "{_DEVICE}" meta mark & {_SLOTS} != 0 '
            f"ct original zone set meta mark & {_MASK} map @zones",
        ),
    )


def untracked(port: int, which: str) -> Rules:
    # The outer packets are many and say nothing to conntrack; tracked, each peer would cost an entry.
    return (("outer", f"udp dport {port} {which}notrack"),)


def _outward(ip: str, pods: str = "covered") -> str:
    """From one of `pods` to where policies count. The source first: a hash tells most packets at once."""
    return f"{ip} saddr @{pods} {_never(ip).replace('daddr', 'daddr !=')} {ip} daddr != @cluster"


def _never(ip: str) -> str:
    return f"{ip} daddr {{ {', '.join(places.NEVER[places.NFT_FAMILIES[ip]])} }}"


def steer(ip: str) -> Rules:
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


ARRIVING: Rules = (
    ("answer", f"meta mark & {_SLOTS} == 0 ct direction reply accept"),
    # An answer to nothing: its connection was forgotten here, the next packet from the pod begins it anew.
    ("stray", f"meta mark & {_SLOTS} == 0 drop"),
    ("invalid", "ct state invalid,untracked drop"),
    # Only for what comes from the tunnel the whole mark is ours: nft 1.0.6 can't merge a variable into one.
    ("slot", "ct state new ct mark set meta mark"),
    # From here on conntrack knows the slot, and the mark can say by which uplink the packet leaves.
    ("uplink", f"meta mark set meta mark & {_MASK} map @uplinks"),
)

LOCAL: Rules = (
    # The tunnel's own packets, above all.
    ("untracked", "ct state untracked accept"),
    # What the node itself says about a flow (ICMP too big, TCP reset) goes where the flow goes.
    ("answer", f"ct direction reply ct mark & {_SLOTS} != 0 {_set_mark(marks.REPLY)}"),
    ("slot", f"ct direction original ct mark & {_SLOTS} != 0 meta mark set ct mark & {_MASK}"),
    ("uplink", f"ct direction original ct mark & {_SLOTS} != 0 meta mark set ct mark & {_MASK} map @uplinks"),
    ("steered", f"ct direction original ct mark & {_MASK} == {marks.STEERED:#x} {_set_mark(marks.STEER)}"),
)


def translate(ip: str) -> Rules:
    return (
        # `accept` here wouldn't stop a later masquerade; a translation into itself does.
        ("tunnel", f'oifname "{_DEVICE}" snat to {ip} saddr'),
        ("slot", f"ct mark & {_SLOTS} != 0 snat {ip} to ct mark & {_MASK} map @egress fully-random"),
        # A pod on its own gateway: no conntrack mark yet, and the classifier's mark is the slot.
        ("local", f"meta mark & {_SLOTS} != 0 snat {ip} to meta mark & {_MASK} map @egress fully-random"),
    )


def passing(ip: str, port: int) -> Rules:
    return (
        *_invalid(ip),
        ("mss", f'oifname "{_DEVICE}" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu'),
        # A pod's own "tunnel packet", masqueraded, would come from a peer's address.
        ("forged", f"udp dport {port} {ip} daddr @cluster drop"),
    )


def _invalid(ip: str) -> Rules:
    """The last word of a connection that was forgotten when its fate changed (FIN, RST): to conntrack it is
    invalid, nobody's NAT translates it, and it would have the pod's own address. In both tables, as the guard
    at the uplinks can't tell it from a pod's that needs no NAT.
    """
    elsewhere = f'ct state invalid oifname != "{_DEVICE}"'
    return tuple(
        ("invalid", f"{elsewhere} {_outward(ip, pods)} counter drop") for pods in ("covered", places.LEFT)
    )


def unseen(ip: str) -> Rules:
    """Of a covered pod every packet that leaves the cluster was marked by somebody, or isn't to leave."""
    return (
        *_invalid(ip),
        ("marked", f"meta mark & {_MASK} != 0 accept"),
        ("inbound", "ct direction reply accept"),
        ("unseen", f"{_outward(ip)} counter drop"),
    )


def leaving(ip: str) -> Rules:
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


def marked(ip: str) -> Rules:
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
