"""Who programs this network: one process at a time. Two installations would undo each other's work for ever.

By an abstract socket's name, which the kernel gives to one process of a network namespace, and takes back
however that one ends: nothing stays behind that somebody would have to remove.
"""

import asyncio
import contextlib
import errno
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable

NAME = "\0ebbgate-programmer"
TAKEN = "another programmer is at work on this node: is Ebbgate installed twice?"
RETRY_S = 0.5
PATIENCE_S = 10.0
"""For one that is about to end."""

log = logging.getLogger(__name__)


def take() -> socket.socket | None:
    """Ours until it is closed; None if somebody has it. Raises OSError."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(NAME)
    except OSError as error:
        claim.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return claim


def take_soon() -> socket.socket | None:
    """As `take`, after PATIENCE_S at most."""
    deadline = time.monotonic() + PATIENCE_S
    while (claim := take()) is None and time.monotonic() < deadline:
        time.sleep(RETRY_S)
    return claim


@contextlib.asynccontextmanager
async def held(heed: Callable[[str], None]) -> AsyncIterator[None]:
    """Waits until this network is ours, and keeps it. `heed` hears why we wait, if we do."""
    claim = take()
    if claim is None:
        heed(TAKEN)
        log.warning("programmer.waits", extra={"fields": {"reason": TAKEN}})
        while (claim := take()) is None:
            await asyncio.sleep(RETRY_S)
    with claim:
        yield
