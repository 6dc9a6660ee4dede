"""JSON lines on stderr: one line per change of state, none per message or idle loop.

An event is `noun.past_participle` and its fields come by `extra={"fields": {...}}`, so that a line can be
searched by event and node without parsing prose. Levels: info for what should happen, warning for what the
world does to us and we live with, error for what somebody must look at.
"""

import json
import logging
import sys
import time
from typing import TextIO


class JsonLines(logging.Formatter):
    """`{"time", "level", "service", "name", "event", …fields}`; an exception becomes `error` and
    `traceback`.
    """

    def __init__(self, *, service: str, name: str) -> None:
        super().__init__()
        self._origin = {"service": service, "name": name}

    def format(self, record: logging.LogRecord) -> str:
        seconds, millis = divmod(int(record.created * 1000), 1000)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        line: dict[str, object] = {"time": f"{stamp}.{millis:03d}Z", "level": record.levelname.lower()}
        line |= self._origin | {"event": record.getMessage()} | getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = repr(record.exc_info[1])
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def setup(*, service: str, name: str, stream: TextIO | None = None) -> None:
    """Send all logging of this process to `stream` (stderr) as JSON lines. Libraries speak from warning
    up.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(service=service, name=name))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for library in ("nats", "asyncio", "kubernetes", "watchfiles", "pyroute2"):
        logging.getLogger(library).setLevel(logging.WARNING)
