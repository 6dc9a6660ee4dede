"""Log lines, for programs and for people."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from ebbgate_bus.runtime import logs

FIELDS = {"node": "n1", "changes": ["Put", "Drop"], "took_ms": 1.5, "reason": 'not "so"', "none": ""}


@pytest.fixture(autouse=True)
def _root() -> Iterator[None]:
    """As it was: pytest's own handlers are there."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers = []
    yield
    root.handlers, root.level = handlers, level


def said(wish: str, *, terminal: bool = False, least: str = "") -> list[str]:
    stream = io.StringIO()
    stream.isatty = lambda: terminal  # type: ignore[method-assign]
    logs.setup(
        service="programmer", name="n1", stream=stream, environment={logs.FORMAT: wish, logs.LEVEL: least}
    )
    log = logging.getLogger("ebbgate_test")
    log.info("plan.applied", extra={"fields": FIELDS})
    try:
        int("far")
    except ValueError:
        log.exception("service.died")
    return stream.getvalue().splitlines()


@pytest.mark.parametrize(("wish", "terminal"), [("json", True), ("", False), ("auto", False)])
def test_programs_get_an_object_a_line(wish: str, terminal: bool) -> None:
    applied, died = map(json.loads, said(wish, terminal=terminal))
    origin = {"level": "info", "service": "programmer", "name": "n1", "event": "plan.applied"}
    assert applied == {"time": applied["time"], **origin, **FIELDS}
    assert died["error"].startswith("ValueError(")


@pytest.mark.parametrize(("wish", "terminal"), [("text", False), ("", True), ("auto", True)])
def test_people_get_words(wish: str, terminal: bool) -> None:
    applied, died, *traceback = said(wish, terminal=terminal)
    stamp, rest = applied.split(" ", 1)
    assert stamp.endswith("Z")
    assert rest == (
        'INFO    programmer plan.applied node=n1 changes=Put,Drop took_ms=1.5 reason="not \\"so\\"" none=""'
    )
    assert died.split(" ", 1)[1].startswith('ERROR   programmer service.died error="ValueError(')
    assert traceback[-1].startswith("ValueError: ")


def test_another_wish_is_refused_and_changes_nothing() -> None:
    refused, *rest = map(json.loads, said("yaml"))
    assert refused["event"] == "setting.refused"
    assert "EBBGATE_LOG_FORMAT is 'yaml'" in refused["reason"]
    assert len(rest) == 2


@pytest.mark.parametrize(("least", "events"), [("info", 2), ("warning", 1), ("error", 1), ("", 2)])
def test_what_is_below_the_level_is_left_out(least: str, events: int) -> None:
    assert len(said("json", least=least)) == events


def test_another_level_is_refused_and_changes_nothing() -> None:
    refused, *rest = map(json.loads, said("json", least="debug"))
    assert refused["reason"] == "EBBGATE_LOG_LEVEL is 'debug', and may be info, warning, error"
    assert len(rest) == 2
