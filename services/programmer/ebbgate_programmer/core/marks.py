"""Packet marks: 12 bits spread around those that others use. Part of lowering; no rule's text is made here.

Default mask 0x1f7f: out of the way of kube-proxy's 0xC000, Calico's 0xffff0000, AWS's 0x80 and the portmap
plugin's 0x2000. A *field* is the number, a *mark* the field spread over the mask's bits. Fields below 16
have meanings of their own, the others are slots.
"""

MASK = 0x1F7F
KEEP = 0xFFFFFFFF ^ MASK
"""The bits that belong to others."""
SLOT_BITS = MASK & ~0xF
"""Any of these set: the field is a slot."""

STEER = 1
"""Routed to the tunnel, original direction. As a conntrack mark: the connection was sent there (STEERED)."""
RECLASS = 2
"""To be classified by the BPF program. As a conntrack mark: a pod on its own gateway (LOCAL)."""
REPLY = 3
"""Routed to the tunnel, reply direction."""
PASSED = 4
"""Looked at, and left alone: excluded, or a reply. What of a covered pod has no mark was seen by nobody."""
CLASSES = range(5, 16)
"""Routed by an uplink that isn't that of the default route."""
STEERED, LOCAL = STEER, RECLASS
TUNNEL_MASK = MASK ^ (STEER ^ REPLY)
"""Under it STEER and REPLY are the same, and no other field is: one rule leads both to the tunnel."""


def mark_of(field: int) -> int:
    if not 0 <= field <= 0xFFF:
        raise ValueError(f"not a field of 12 bits: {field}")
    return (field & 0x7F) | ((field & 0xF80) << 1)


def field_of(mark: int) -> int:
    """The field in a mark; others' bits are left out."""
    return (mark & 0x7F) | ((mark & 0x1F00) >> 1)
