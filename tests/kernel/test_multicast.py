"""What a node itself says of multicast groups still leaves: IPv6's neighbour discovery depends on it.

The kernel keeps another number where such a packet's mark is (skb->reserved_tailroom), and to a guard it
looks like one that was marked.
"""

import socket
import struct

from tests.kernel import rig as rigs

GROUPS = {socket.AF_INET: "239.1.2.3", socket.AF_INET6: "ff02::1234"}
EVERYTHING = 3
"""ETH_P_ALL: a bridge takes frames from its ports before those who ask for one protocol."""
WAIT_S = 10.0


def _join(family: int, interface: str) -> socket.socket:
    member = socket.socket(family, socket.SOCK_DGRAM)
    group = socket.inet_pton(family, GROUPS[family])
    index = struct.pack("=i", socket.if_nametoindex(interface))
    if family == socket.AF_INET:
        member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + bytes(4) + index)
    else:
        member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group + index)
    return member


async def test_reports_of_multicast_groups_leave_the_node(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        for family, group in GROUPS.items():
            with rig.lab.entered("underlay"):
                cable = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERYTHING))
                cable.bind(("node1", EVERYTHING))
            cable.settimeout(WAIT_S)
            with cable, rig.lab.entered("node1"), _join(family, "eth0"):
                wanted = socket.inet_pton(family, group)
                while wanted not in cable.recv(65536):
                    pass  # ends by the socket's timeout if the report doesn't come
