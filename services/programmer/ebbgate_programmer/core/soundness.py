"""Whether a row that decodes can be used: addresses that are some, slots in range. Between bytes and Desired.

The resolver writes nothing else; a row that is otherwise was written by something broken, and is refused by
name here instead of half-way in the kernel. Texts must be canonical, since they are compared with what the
kernel gives back.
"""

import functools
import ipaddress

from ebbgate_bus.contracts import rows, subjects
from ebbgate_bus.contracts.message import Message
from ebbgate_programmer.core import addresses


def fault(name: subjects.Name, row: Message) -> str:
    """What is wrong with it, or empty. `name`: of its subject."""
    match row:
        case rows.Endpoint():
            return of_endpoint(name.ids[-1], row)
        case rows.Egress():
            return _of_slot(name.ids[-1]) or _of_address(row.egress_ip)
        case rows.Peer():
            return next(filter(None, map(_of_address, row.addresses)), "")
        case rows.Cluster():
            return _of_cidr(row.cidr)
        case rows.Routes():
            return next(filter(None, (_of_cidr(route.cidr) for route in row.routes)), "")
        case _:
            return ""


def is_address(text: str) -> bool:
    return not _of_address(text)


def of_endpoint(pod: str, row: rows.Endpoint) -> str:
    """`pod`: by the row's subject."""
    if row.ip != pod:
        return f"is about {row.ip}"
    if not 0 <= row.bucket < rows.BUCKETS:
        return f"bucket {row.bucket} is not one of {rows.BUCKETS}"
    return _of_address(row.ip)


def _of_slot(text: str) -> str:
    in_range = text.isdecimal() and rows.SLOT_MIN <= int(text) <= rows.SLOT_MAX
    return "" if in_range else f"{text!r} is not a slot"


def _of_address(text: str) -> str:
    return "" if addresses.is_ipv4(text) else _of_another(text)


@functools.lru_cache(maxsize=4096)
def _of_another(text: str) -> str:
    try:
        canonical = str(ipaddress.ip_address(text))
    except ValueError:
        return f"{text!r} is not an IP address"
    return "" if canonical == text else f"{text!r} is not written as {canonical}"


def _of_cidr(text: str) -> str:
    return "" if addresses.is_ipv4_cidr(text) else _of_another_cidr(text)


@functools.lru_cache(maxsize=4096)
def _of_another_cidr(text: str) -> str:
    try:
        canonical = str(ipaddress.ip_network(text))
    except ValueError as error:
        return f"{text!r} is not a CIDR: {error}"
    return "" if canonical == text else f"{text!r} is not written as {canonical}"
