"""Options that several commands have."""

from typing import Annotated

import typer

from ebbgate_cli import live, output

Url = Annotated[
    str,
    typer.Option(
        "--nats", metavar="URL", envvar="EBBGATE_NATS_URL", help="NATS servers, separated by commas."
    ),
]
OutputForm = Annotated[output.Form, typer.Option("-o", "--output", help="Form of the answer.")]
URL = live.DEFAULT_URL


def fail(error: live.Unreachable) -> typer.Exit:
    """What to raise when the bus can't be reached: says why on standard error, exit code 1."""
    output.complain([str(error)])
    return typer.Exit(1)
