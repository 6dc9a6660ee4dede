"""CIDRs in one canonical form: without overlaps and neighbours. Used on the way to nft and back.

nft's interval sets refuse overlaps, and read back what is canonical as it was written. An IPv6 CIDR never
stands for IPv4 addresses, which the BPF maps hold as a part of the IPv6 ones.
"""

import ipaddress
from collections.abc import Iterable


def collapse(networks: Iterable[str]) -> frozenset[str]:
    """IPv4 and IPv6 may be mixed; host bits are cut off."""
    parsed = [ipaddress.ip_network(text, strict=False) for text in networks]
    v4 = [network for network in parsed if isinstance(network, ipaddress.IPv4Network)]
    v6 = [part for each in parsed if isinstance(each, ipaddress.IPv6Network) for part in _without_ipv4(each)]
    return frozenset(map(str, (*ipaddress.collapse_addresses(v4), *ipaddress.collapse_addresses(v6))))


_IPV4 = ipaddress.IPv6Network("::ffff:0:0/96")


def _without_ipv4(network: ipaddress.IPv6Network) -> list[ipaddress.IPv6Network]:
    if not network.overlaps(_IPV4):
        return [network]
    return list(network.address_exclude(_IPV4)) if network.prefixlen <= _IPV4.prefixlen else []


def between(first: str, last: str) -> list[str]:
    """The CIDRs that cover a range of addresses, both ends included."""
    low, high = ipaddress.ip_address(first), ipaddress.ip_address(last)
    if isinstance(low, ipaddress.IPv4Address) and isinstance(high, ipaddress.IPv4Address):
        return [str(network) for network in ipaddress.summarize_address_range(low, high)]
    assert isinstance(low, ipaddress.IPv6Address)
    assert isinstance(high, ipaddress.IPv6Address)
    return [str(network) for network in ipaddress.summarize_address_range(low, high)]
