"""`ebbgate tap`: what is said on the bus, as it is said."""

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Annotated

import typer

from ebbgate_bus.contracts import streams, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.runtime import access, connection
from ebbgate_cli import concerns, happenings, lines, live, output, recordings
from ebbgate_cli.commands import options

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_KEPT = f"{streams.JOURNAL_S // 60} minutes"


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a time; write 90s, 10m or 1h")
    seconds = float(found[1]) * _SECONDS[found[2]]
    if seconds > streams.JOURNAL_S:
        raise typer.BadParameter(f"{text} is too long ago; the journal keeps {_KEPT}")
    return seconds


def _kind(text: str) -> str:
    if text and text not in concerns.KINDS:
        raise typer.BadParameter(f"there is no kind {text}; there are {', '.join(concerns.KINDS)}")
    return text


def _kinds(incomplete: str) -> list[str]:
    return [kind for kind in concerns.KINDS if kind.startswith(incomplete)]


@options.asking
def command(
    kind: Annotated[
        str,
        typer.Option(
            callback=_kind,
            autocompletion=_kinds,
            help="Only one kind: fact, synced, plan, status, verdict or stats; `fact.pod` works too.",
        ),
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
    if since is not None and kind and kind not in concerns.KINDS_KEPT:
        raise typer.BadParameter(f"the journal has no {kind}: leave --since out")
    wanted = concerns.Filters(kind=kind, namespace=namespace, policy=policy, node=node)
    with contextlib.suppress(KeyboardInterrupt):
        live.run(reach, lambda bus: _tell(bus, since, wanted, count, form))


def _messages(bus: connection.Bus, since_s: float | None) -> AsyncIterator[Stored]:
    if since_s is None:
        return live.follow(bus, f"{subjects.LIVE}.>")
    return live.replay(bus, streams.JOURNAL, since_s)


async def _tell(
    bus: connection.Bus, since_s: float | None, wanted: concerns.Filters, count: int, form: output.Form
) -> None:
    """Everything is heard, whatever is printed: what began it may be of another kind."""
    out, heard, printed = output.console(), happenings.History(), 0
    if wanted.policy:
        for row in await recordings.read(bus, streams.PLAN, [f"{subjects.ALL_SCOPE}.set.>"]):
            heard.know(row)
    async for message in _messages(bus, since_s):
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
