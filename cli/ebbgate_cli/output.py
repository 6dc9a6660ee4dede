"""What commands have in common on the outside: output forms, and complaints on standard error."""

import enum
import json
import os
from collections.abc import Iterable

from rich import text
from rich.console import Console


class Form(enum.StrEnum):
    """`wide`: the table with more columns, where there are more; lists aren't cut. `yaml`: as JSON; what is
    told one after the other is one document each.
    """

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"

    @property
    def is_data(self) -> bool:
        """For programs, not for people."""
        return self in (Form.JSON, Form.YAML)


def data(form: Form, text_: str, *, one_of_many: bool = False) -> None:
    """Print `text_`, which is JSON, in this form."""
    if form is Form.YAML:
        import yaml  # only where it is asked for

        text_ = yaml.safe_dump(json.loads(text_), sort_keys=False, allow_unicode=True).rstrip()
        text_ = f"---\n{text_}" if one_of_many else text_
    print(text_, flush=True)


def console(*, stderr: bool = False, soft_wrap: bool = True, width: int | None = None) -> Console:
    """Without any escape codes unless it is a terminal, and nobody has set NO_COLOR: rich by itself would
    leave colours out then, and write bold and dim.
    """
    return Console(
        stderr=stderr,
        highlight=False,
        soft_wrap=soft_wrap,
        width=width,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
    )


def complain(lines: Iterable[str], style: str = "red") -> None:
    err = console(stderr=True)
    for line in lines:
        err.print(text.Text(line, style=style))
