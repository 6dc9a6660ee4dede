"""Where our things are in the kernel: names and numbers, in one place.

Chosen to be unusual, so that nothing else on a node is likely to hold them: two VXLAN devices can't share a
port (flannel and Cilium hold 8472, the standard is 4789), and others' rules sit at 0-100, 2000 or 32766.
"""

from typing import Final

from ebbgate_programmer.core import marks

DEVICE: Final = "ebbgate0"
NFT_TABLE: Final = "ebbgate"
NFT_GUARD: Final = "ebbgate_guard"
"""A table of its own: who deletes one leaves the other."""
LEFT: Final = "left"
"""Of each table, the set of pods that were covered. It fills by itself: no KernelState has it."""
LEFT_FOR: Final = "5d"
"""As long as the kernel keeps an idle TCP connection (nf_conntrack_tcp_timeout_established)."""
NFT_FAMILIES: Final = {"ip": "ipv4", "ip6": "ipv6"}
"""nft's word → ours."""
PORT: Final = 19021
TABLE_CLASSIFY: Final = 19021
TABLE_TUNNEL: Final = 19022
TABLE_UPLINK: Final = 19024
"""Of class 0, which doesn't exist; class 5 has table 19029."""
PRIORITY_TUNNEL: Final = 1921
"""First, as every steered packet asks for it, and only the first of a connection for the next one."""
PRIORITY_CLASSIFY: Final = 1922
PRIORITY_UPLINK: Final = 1923
PRIORITY_LOCAL: Final = 1924
PRIORITIES: Final = (PRIORITY_TUNNEL, PRIORITY_CLASSIFY, PRIORITY_UPLINK, PRIORITY_LOCAL)
TABLES: Final = (TABLE_CLASSIFY, TABLE_TUNNEL, *(TABLE_UPLINK + n for n in marks.CLASSES))
METRIC_FIRST: Final = 1
METRIC_BLACKHOLE: Final = 4096
ZONE: Final = 40960
"""First of conntrack's zones that are ours, one for each slot; others count theirs up from 1."""
ROUTE_PROTOCOL: Final = 219
"""rtm_protocol of our routes: one that neither the kernel nor iproute2 has a name for."""
OFF: Final = "off"
AUTO, TCX, CLSACT = "auto", "tcx", "clsact"
"""How programs are attached to devices; auto: as the kernel can."""
FILTER_PRIORITY: Final = 1921
FILTER_HANDLE: Final = 0x1921
"""Of filters under clsact: before those whose priority the kernel chose, from 49152 downwards."""
PROGRAM_PREFIX: Final = "ebbgate-"
RP_FILTER_LOOSE: Final = "2"
TUNNEL_OVERHEAD: Final = {"ipv4": 50, "ipv6": 70}
"""Outer IP, UDP, VXLAN and inner Ethernet headers, by the underlay's family."""
DEFAULT_MTU: Final = 1500
NEVER: Final = {
    "ipv4": ("127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"),
    "ipv6": ("::1/128", "fe80::/10", "ff00::/8"),
}
"""Never steered, whatever a policy says: loopback, link-local (with 169.254.169.254), multicast."""


def rp_filter(interface: str) -> str:
    """Path under /proc/sys. Interface names may hold dots, so it is a path and not a sysctl name."""
    return f"net/ipv4/conf/{interface}/rp_filter"
