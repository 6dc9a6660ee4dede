"""Being inside a network namespace: sockets of this thread are made there until it leaves.

setns(2) moves one thread, so the asyncio loop that talks to the lab's bus runs entirely inside.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator

from ebbgate_lab import processes

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def entered(netns: str) -> Iterator[None]:
    """The calling thread is inside `netns` while the block runs."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(processes.NETNS_FOLDER / netns, os.O_RDONLY)
    try:
        _set(there)
        yield
    finally:
        _set(home)
        os.close(there)
        os.close(home)


def _set(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")
