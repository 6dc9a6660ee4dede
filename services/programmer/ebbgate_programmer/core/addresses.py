"""Addresses of both families as numbers of 128 bits, as the BPF maps have them: IPv4 as ::ffff:a.b.c.d.

One form means one set of maps and one look-up. Texts are canonical; a number below 2^128 is what a route or a
packet is compared by.
"""

import functools
import ipaddress
import re

FAMILIES = ("ipv4", "ipv6")
BITS = 128
_MAPPED = 0xFFFF << 32
_V4_BITS = 32
_V4_PREFIX = BITS - _V4_BITS
_V4 = re.compile(r"\.".join(["(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"] * 4))


def family(text: str) -> str:
    """Of an address or CIDR that was parsed before."""
    return "ipv6" if ":" in text else "ipv4"


def is_ipv4(text: str) -> bool:
    """Whether it is an IPv4 address, canonical: there is no other form. A tenth of what parsing it costs."""
    return _V4.fullmatch(text) is not None


def number(address: str) -> int:
    """Raises ValueError for what is no address."""
    # Quicker than to remember it, as soon as there are more than are remembered.
    if is_ipv4(address):
        return int.from_bytes(bytes(map(int, address.split("."))), "big") | _MAPPED
    return _other_number(address)


@functools.lru_cache(maxsize=4096)
def _other_number(address: str) -> int:
    parsed = ipaddress.ip_address(address)
    return int(parsed) | (_MAPPED if parsed.version == 4 else 0)


def text(value: int) -> str:
    if value >> _V4_BITS == _MAPPED >> _V4_BITS:
        return f"{value >> 24 & 255}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"
    return str(ipaddress.IPv6Address(value))


_LENGTHS = {str(length): length for length in range(_V4_BITS + 1)}


def is_ipv4_cidr(text: str) -> bool:
    """Whether it is one, canonical: with all 32 bits written, and no host bits. Quick, as `is_ipv4`."""
    network, _, length = text.partition("/")
    if length not in _LENGTHS or not is_ipv4(network):
        return False
    return number(network) & (1 << _V4_BITS - _LENGTHS[length]) - 1 == 0


def prefix(cidr: str) -> tuple[int, int]:
    """Network and length, the length of an IPv4 CIDR with the 96 bits before it. Host bits are masked."""
    network, _, length = cidr.partition("/")
    if length in _LENGTHS and is_ipv4(network):
        bits = _LENGTHS[length] + _V4_PREFIX
        return masked(number(network), bits), bits
    return _other_prefix(cidr)


@functools.lru_cache(maxsize=4096)
def _other_prefix(cidr: str) -> tuple[int, int]:
    parsed = ipaddress.ip_network(cidr, strict=False)
    if parsed.version == 4:
        return int(parsed.network_address) | _MAPPED, parsed.prefixlen + _V4_PREFIX
    return int(parsed.network_address), parsed.prefixlen


def cidr(network: int, length: int) -> str:
    if network >> _V4_BITS == _MAPPED >> _V4_BITS and length >= _V4_PREFIX:
        return f"{text(network)}/{length - _V4_PREFIX}"
    return f"{text(network)}/{length}"


def masked(value: int, length: int) -> int:
    """The network of this length that the address is in."""
    return value >> (BITS - length) << (BITS - length)
