"""Settings under /proc/sys, of the network namespace of the thread that asks.

Reads and writes text; which settings matter is lowering's business. A container's own /proc/sys can't be
written to: there the host's is mounted elsewhere, and `use` says where. Below `net` it shows the network
namespace of whoever looks, wherever it is mounted.
"""

import pathlib

ROOT = pathlib.Path("/proc/sys")
_root = ROOT
FORWARDING = {"ipv4": "net/ipv4/ip_forward", "ipv6": "net/ipv6/conf/all/forwarding"}


def use(root: pathlib.Path) -> None:
    """From now on, in this process."""
    global _root
    _root = root


def read(path: str) -> str:
    """The value, or empty if there is no such setting (its interface is gone)."""
    try:
        return (_root / path).read_text().strip()
    except FileNotFoundError:
        return ""


def write(path: str, value: str) -> None:
    (_root / path).write_text(value)
