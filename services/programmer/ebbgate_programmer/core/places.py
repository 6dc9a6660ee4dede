"""Where our things are in the kernel: names and numbers, in one place.

Chosen to be unusual, so that nothing else on a node is likely to hold them: two VXLAN devices can't share a
port (flannel and Cilium hold 8472, the standard is 4789), and others' rules sit at 0-100, 2000 or 32766.
"""

from typing import Final

DEVICE: Final = "ebbgate0"
NFT_TABLE: Final = "ebbgate"
PORT: Final = 19021
TABLE_CLASSIFY: Final = 19021
TABLE_TUNNEL: Final = 19022
PRIORITY_CLASSIFY: Final = 1921
PRIORITY_STEER: Final = 1922
PRIORITY_REPLY: Final = 1923
PRIORITIES: Final = (PRIORITY_CLASSIFY, PRIORITY_STEER, PRIORITY_REPLY)
TABLES: Final = (TABLE_CLASSIFY, TABLE_TUNNEL)
METRIC_FIRST: Final = 1
METRIC_BLACKHOLE: Final = 4096
ROUTE_PROTOCOL: Final = 219
"""rtm_protocol of our routes: one that neither the kernel nor iproute2 has a name for."""
PROGRAM_PREFIX: Final = "ebbgate-"
RP_FILTER_LOOSE: Final = "2"
TUNNEL_OVERHEAD: Final = 50
"""Outer IPv4, UDP, VXLAN and inner Ethernet headers."""
DEFAULT_MTU: Final = 1500


def rp_filter(interface: str) -> str:
    """Path under /proc/sys. Interface names may hold dots, so it is a path and not a sysctl name."""
    return f"net/ipv4/conf/{interface}/rp_filter"
