"""`ebbgate tap`: what is said on the bus, as it is said."""

import contextlib
from typing import Annotated

import typer

from ebbgate_bus.contracts import subjects
from ebbgate_bus.runtime import connection
from ebbgate_cli import lines, live, output
from ebbgate_cli.commands import options


def command(
    kind: Annotated[
        str, typer.Option(help="Only one kind: fact, synced, plan, status or verdict; `fact.pod` works too.")
    ] = "",
    count: Annotated[int, typer.Option(min=0, help="End after so many messages; 0: go on until Ctrl-C.")] = 0,
    form: options.OutputForm = output.Form.TABLE,
    nats: options.Url = options.URL,
) -> None:
    """Print each message of the bus on one line, from now on.

    The same can be had with any NATS client: subscribe to `ebbgate.v1.live.>`. Payloads are JSON.

    Example: `ebbgate tap --kind verdict -o json`
    """
    with contextlib.suppress(KeyboardInterrupt):
        try:
            live.run(nats, lambda bus: _print(bus, kind, count, form is output.Form.JSON))
        except live.Unreachable as error:
            raise options.fail(error) from error


async def _print(bus: connection.Bus, kind: str, count: int, as_json: bool) -> None:
    subject = f"{subjects.LIVE}.{kind}.>" if kind else f"{subjects.LIVE}.>"
    printed = 0
    async for message in live.follow(bus, subject):
        print(lines.as_json(message) if as_json else lines.of_message(message), flush=True)
        printed += 1
        if printed == count:
            return
