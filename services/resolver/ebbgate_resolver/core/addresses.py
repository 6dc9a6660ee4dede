"""IP addresses and CIDRs: text from outside → `ipaddress` objects, and what family they are of.

Leg: parsing within Fact → Inventory. Never widens or repairs what was written, except that host bits of a
CIDR are masked, as Cilium did and as its users' manifests rely on.
"""

import functools
import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

FAMILIES = ("ipv4", "ipv6")
UNSPECIFIED = {"ipv4": "0.0.0.0", "ipv6": "::"}


@functools.lru_cache(maxsize=65536)
def network(text: str) -> Network | None:
    """The network form of a CIDR, or None. An address without prefix length or with a netmask is none."""
    address, slash, length = text.partition("/")
    if not (slash and length.isascii() and length.isdigit()) or "%" in address:
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


@functools.lru_cache(maxsize=65536)
def address(text: str) -> Address | None:
    """An IP address without zone, or None."""
    if "%" in text:
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def interface_address(text: str) -> Address | None:
    """The address of `192.0.2.1/24`, or None."""
    return address(text.partition("/")[0])


def family(of: Address | Network) -> str:
    return "ipv4" if of.version == 4 else "ipv6"


def family_of_text(text: str) -> str:
    """The family of a canonical address or CIDR; only for what was parsed before."""
    return "ipv6" if ":" in text else "ipv4"


def host_network(of: Address) -> str:
    return f"{of}/{of.max_prefixlen}"


def network_order(cidr: str) -> tuple[int, int, int]:
    """Sorting key: IPv4 first, then by number, then general before specific."""
    parsed = ipaddress.ip_network(cidr)
    return (parsed.version, int(parsed.network_address), parsed.prefixlen)
