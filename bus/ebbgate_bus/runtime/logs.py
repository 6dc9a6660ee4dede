"""Lines on stderr, as JSON or for people: one per change of state, none per message or idle loop.

An event is `noun.past_participle` and its fields come by `extra={"fields": {...}}`, so that a line can be
searched by event and node without parsing prose. Levels: info for what should happen, warning for what the
world does to us and we live with, error for what somebody must look at. People get text where they sit at a
terminal, programs JSON; EBBGATE_LOG_FORMAT decides otherwise. EBBGATE_LOG_LEVEL leaves out what is below it.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import TextIO

AUTO, JSON, TEXT = "auto", "json", "text"
FORMAT = "EBBGATE_LOG_FORMAT"
LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
LEVEL = "EBBGATE_LOG_LEVEL"

log = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """`{"time", "level", "service", "name", "event", …fields}`; an exception becomes `error` and
    `traceback`.
    """

    def __init__(self, *, service: str, name: str) -> None:
        super().__init__()
        self._origin = {"service": service, "name": name}

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {"time": _stamp(record), "level": record.levelname.lower()}
        line |= self._origin | {"event": record.getMessage()} | getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = repr(record.exc_info[1])
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextLines(logging.Formatter):
    """`TIME LEVEL SERVICE EVENT field=value …`; a traceback follows on lines of its own."""

    def __init__(self, *, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        words = [_stamp(record), f"{record.levelname:<7}", self._service, record.getMessage()]
        fields: dict[str, object] = getattr(record, "fields", {})
        words += [f"{key}={_value(value)}" for key, value in fields.items()]
        if record.exc_info and record.exc_info[1] is not None:
            words.append(f"error={_value(repr(record.exc_info[1]))}\n{self.formatException(record.exc_info)}")
        return " ".join(words)


def _stamp(record: logging.LogRecord) -> str:
    seconds, millis = divmod(int(record.created * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{millis:03d}Z"


def _value(value: object) -> str:
    """In quotes where one couldn't see its end."""
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return json.dumps(text) if not text or any(c.isspace() or c == '"' for c in text) else text


def setup(
    *, service: str, name: str, stream: TextIO | None = None, environment: Mapping[str, str] = os.environ
) -> None:
    """Send all logging of this process to `stream` (stderr). Libraries speak from warning up."""
    stream = stream or sys.stderr
    wish = environment.get(FORMAT, "") or AUTO
    is_text = wish == TEXT or (wish != JSON and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextLines(service=service) if is_text else JsonLines(service=service, name=name))
    least = environment.get(LEVEL, "") or "info"
    logging.basicConfig(level=LEVELS.get(least, logging.INFO), handlers=[handler], force=True)
    if wish not in (AUTO, JSON, TEXT):
        _refuse(f"{FORMAT} is {wish!r}, and may be {AUTO}, {JSON} or {TEXT}")
    if least not in LEVELS:
        _refuse(f"{LEVEL} is {least!r}, and may be {', '.join(LEVELS)}")
    for library in ("nats", "asyncio", "kubernetes", "watchfiles", "pyroute2"):
        logging.getLogger(library).setLevel(max(logging.WARNING, LEVELS.get(least, 0)))


def _refuse(reason: str) -> None:
    log.warning("setting.refused", extra={"fields": {"reason": reason}})
