"""nats-server, told to read its files again: it does so on SIGHUP only, and Kubernetes only changes files."""

import asyncio
import hashlib
import logging
import os
import pathlib
import signal
from collections.abc import Sequence

LOOK_S = 5.0

log = logging.getLogger(__name__)


async def reload_for_ever(pid_file: pathlib.Path, files: Sequence[pathlib.Path]) -> None:
    """Also at the start: what changed before it may not have been seen."""
    told = ""
    while True:
        seen = _digest(files)
        if seen != told and _tell(pid_file):
            told = seen
        await asyncio.sleep(LOOK_S)


def _digest(files: Sequence[pathlib.Path]) -> str:
    whole = hashlib.sha256()
    for path in files:
        whole.update(path.read_bytes() if path.is_file() else b"")
        whole.update(b"\0")
    return whole.hexdigest()


def _tell(pid_file: pathlib.Path) -> bool:
    try:
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGHUP)
    except (OSError, ValueError) as error:
        log.warning("server.unreachable", extra={"fields": {"pid_file": str(pid_file), "reason": str(error)}})
        return False
    log.info("server.reloaded", extra={"fields": {"pid": pid}})
    return True
