"""Texts from outside → canonical texts. Second half of the leg *normalise*: the leaves.

What doesn't parse is left out and named, never guessed and never passed on: every later step may rely on
addresses, networks and names of facts being well formed. Each function takes `notes`, the list to which it
adds one clause per thing left out, so that the fact and the reasons for its gaps travel together.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable

from ebbgate_bus.contracts import subjects

_TIME = re.compile(
    r"(\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3])(?::[0-5]\d){2})(?:\.\d+)?(?:Z|[+-]00:00)?",
    re.ASCII,
)


def parse_addresses(texts: Iterable[str], field: str, notes: list[str]) -> tuple[str, ...]:
    """IP addresses without zone, in order, each once."""
    return _parse_each(texts, _address, f"{field} is not an IP address", notes)


def parse_networks(texts: Iterable[str], field: str, notes: list[str]) -> tuple[str, ...]:
    """CIDRs in network form: host bits, which people do write, are cleared."""
    return _parse_each(texts, _network, f"{field} is not a CIDR", notes)


def parse_interface_addresses(texts: Iterable[str], field: str, notes: list[str]) -> tuple[str, ...]:
    """Addresses with prefix length, host bits kept. Link-local ones can't be an egress IP and are no fact."""
    parsed = _parse_each(texts, _interface, f"{field} is not an address with prefix length", notes)
    return tuple(text for text in parsed if not ipaddress.ip_interface(text).is_link_local)


def parse_time(text: str, field: str, notes: list[str]) -> str:
    """RFC 3339 in UTC and whole seconds, as the API writes it: such texts compare as their times do.

    The API knows no other zone; a manifest with one is told so, as a wrong order of policies would be worse.
    """
    found = _TIME.fullmatch(text)
    if found is None and text:
        notes.append(f"{field} is not a time in UTC: {text!r}")
    return f"{found[1]}Z" if found else ""


def parse_token(text: str, field: str, fallback: str, notes: list[str]) -> str:
    """`text` if it can be part of a subject, else `fallback`. Nothing is noted for an empty text."""
    if not text:
        return fallback
    try:
        subjects.escape(text)
    except ValueError:
        notes.append(f"{field} can't be part of a subject: {text!r}")
        return fallback
    return text


def _parse_each(
    texts: Iterable[str], parse: Callable[[str], str], complaint: str, notes: list[str]
) -> tuple[str, ...]:
    parsed: dict[str, None] = {}
    for text in texts:
        try:
            parsed[parse(text)] = None
        except ValueError:
            notes.append(f"{complaint}: {text!r}")
    return tuple(parsed)


def _address(text: str) -> str:
    # A zone ("fe80::1%eth0") means something on one node only, and facts are read on all.
    if "%" in text:
        raise ValueError(text)
    return str(ipaddress.ip_address(text))


def _network(text: str) -> str:
    return str(ipaddress.ip_network(_with_prefix(text), strict=False))


def _interface(text: str) -> str:
    return str(ipaddress.ip_interface(_with_prefix(text)))


def _with_prefix(text: str) -> str:
    # Python takes a bare address for a /32 and a netmask for a prefix length; Kubernetes takes neither.
    if not text.rpartition("/")[2].isdecimal() or "/" not in text or "%" in text:
        raise ValueError(text)
    return text
