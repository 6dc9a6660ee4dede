"""Settings under /proc/sys, of the network namespace of the thread that asks.

Reads and writes text; which settings matter is lowering's business.
"""

import pathlib

ROOT = pathlib.Path("/proc/sys")
FORWARDING = {"ipv4": "net/ipv4/ip_forward", "ipv6": "net/ipv6/conf/all/forwarding"}


def read(path: str) -> str:
    """The value, or empty if there is no such setting (its interface is gone)."""
    try:
        return (ROOT / path).read_text().strip()
    except FileNotFoundError:
        return ""


def write(path: str, value: str) -> None:
    (ROOT / path).write_text(value)
