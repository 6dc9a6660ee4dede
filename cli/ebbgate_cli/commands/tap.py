"""`ebbgate tap`: what is said on the bus, as it is said."""

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Annotated

import typer
from rich.console import Console

from ebbgate_bus.contracts import streams, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.runtime import access, connection
from ebbgate_cli import concerns, happenings, lines, live, output
from ebbgate_cli.commands import options

_SECONDS = {"s": 1, "m": 60, "h": 3600}


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a time; write 90s, 10m or 1h")
    return float(found[1]) * _SECONDS[found[2]]


@options.asking
def command(
    kind: Annotated[
        str, typer.Option(help="Only one kind: fact, synced, plan, status or verdict; `fact.pod` works too.")
    ] = "",
    *,
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="Only what is about its pods.")] = "",
    policy: Annotated[str, typer.Option(help="Only what is about this policy.")] = "",
    node: Annotated[str, typer.Option(help="Only what is about this node.")] = "",
    since: Annotated[
        float | None,
        typer.Option(
            parser=_seconds, metavar="TIME", help="Also what was said lately: 90s, 10m, at most 1h."
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=0, help="End after so many messages; 0: go on until Ctrl-C.")] = 0,
    form: options.OutputForm = output.Form.TABLE,
    reach: access.Access,
) -> None:
    """Print each message of the bus on a line: when, what it is about, what changed, and what began it.

    What changed is known once a subject has been heard twice. Times are UTC. The same can be had with any
    NATS client: subscribe to `ebbgate.v1.live.>`; docs/bus.md describes each message.

    Examples: `ebbgate tap --policy egress-sample --since 10m`, `ebbgate tap --kind verdict -o json`
    """
    wanted = concerns.Filters(kind=kind, namespace=namespace, policy=policy, node=node)
    with contextlib.suppress(KeyboardInterrupt):
        live.run(reach, lambda bus: _print(_messages(bus, since), wanted, count, form))


def _messages(bus: connection.Bus, since_s: float | None) -> AsyncIterator[Stored]:
    if since_s is None:
        return live.follow(bus, f"{subjects.LIVE}.>")
    return live.replay(bus, streams.JOURNAL, since_s)


async def _print(
    messages: AsyncIterator[Stored], wanted: concerns.Filters, count: int, form: output.Form
) -> None:
    """Everything is heard, whatever is printed: what began it may be of another kind."""
    out, heard, printed = Console(highlight=False, soft_wrap=True), happenings.History(), 0
    async for message in messages:
        happening = heard.take(message)
        if not concerns.holds(wanted, happening):
            continue
        if form.is_data:
            output.data(form, lines.as_json(happening), one_of_many=True)
        else:
            out.print(lines.of_happening(happening))
        printed += 1
        if printed == count:
            return
