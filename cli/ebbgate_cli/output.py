"""What commands have in common on the outside: output forms, and complaints on standard error."""

import enum
from collections.abc import Iterable

from rich import console, text


class Form(enum.StrEnum):
    TABLE = "table"
    JSON = "json"


def complain(lines: Iterable[str], style: str = "red") -> None:
    """Plain text unless standard error is a terminal, and without colour under NO_COLOR."""
    err = console.Console(stderr=True, highlight=False, soft_wrap=True)
    for line in lines:
        err.print(text.Text(line, style=style))
