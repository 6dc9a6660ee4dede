"""`ebbgate top`: traffic as it flows. Arguments, and when to show what; the arithmetic is in
`ebbgate_cli.traffic`.
"""

import asyncio
import contextlib
import datetime
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from typing import Annotated

import typer
from rich import live as rich_live
from rich import text

from ebbgate_bus.contracts import codec, envelope, reports, streams, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.runtime import access, connection
from ebbgate_cli import live, output, top, traffic
from ebbgate_cli.commands import options

TICK_S = 1.0
"""How often a terminal is drawn anew though no node has told anything: silent nodes fall to zero."""
LOOK_S = 0.2
"""How often --once looks whether its time has come."""
_NOBODY = 1
Say = Callable[[traffic.Reading], None]


@options.asking
def command(
    by: Annotated[traffic.By | None, typer.Option(help="Only one section; else all three.")] = None,
    *,
    once: Annotated[bool, typer.Option("--once", help="Print one reading and end.")] = False,
    wait: Annotated[
        float,
        typer.Option(min=0, metavar="S", help="With --once: for rates, wait so long for second reports."),
    ] = traffic.QUIET_S,
    count: Annotated[int, typer.Option(min=0, help="End after so many readings; 0: go on until Ctrl-C.")] = 0,
    form: options.OutputForm = output.Form.TABLE,
    reach: access.Access,
) -> None:
    """Show live traffic by policy, egress IP and node: packets, bits, new connections and drops a second.

    The busiest first, with totals since the nodes' maps were made. Nodes report every five seconds while they
    count anything: a rate is the mean between two reports, `-` where a node has reported only once. DROPS
    are by reason; `ebbgate drops` shows single packets. A node's numbers are those of its own pods and those
    it carries as a gateway.

    Example: `ebbgate top --by policy`, or for scripts `ebbgate top --once -o json`. JSON is one object on a
    line for each reading.

    Exit code 1 with --once if no node has reported.
    """
    with contextlib.suppress(KeyboardInterrupt), _shown(by, form, once=once) as (say, tick_s):
        heard = live.run(
            reach,
            lambda bus: _once(bus, wait, say) if once else _watch(bus, count, say, tick_s),
        )
        if once and not heard:
            output.complain([top.NOBODY])
            raise typer.Exit(_NOBODY)


@contextlib.contextmanager
def _shown(by: traffic.By | None, form: output.Form, *, once: bool) -> Iterator[tuple[Say, float | None]]:
    """How to show a reading, and how often though nothing new was told: only a terminal is drawn in place."""
    out = output.console()
    if form.is_data:
        yield lambda reading: output.data(form, top.as_json(reading, _now()), one_of_many=True), None
    elif once or not out.is_terminal:
        yield lambda reading: out.print(_text(reading, by), end="\n" if once else "\n\n"), None
    else:
        with rich_live.Live(console=out, auto_refresh=False) as drawn:
            yield lambda reading: drawn.update(_text(reading, by), refresh=True), TICK_S


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _text(reading: traffic.Reading, by: traffic.By | None) -> text.Text:
    return text.Text(top.text(reading, by), no_wrap=True, overflow="ignore")


async def _once(bus: connection.Bus, wait: float, say: Say) -> bool:
    """Whether any node has reported."""
    end = time.monotonic() + wait
    async with contextlib.aclosing(_boards(bus, LOOK_S)) as boards:
        async for board in boards:
            now = time.monotonic()
            if traffic.is_known(board, now) or now >= end:
                if board:
                    say(traffic.read(board, now))
                return bool(board)
    return False


async def _watch(bus: connection.Bus, count: int, say: Say, tick_s: float | None) -> bool:
    shown, complained = 0, False
    async with contextlib.aclosing(_boards(bus, tick_s)) as boards:
        async for board in boards:
            if board:
                say(traffic.read(board, time.monotonic()))
                shown += 1
            elif not complained:
                output.complain([top.NOBODY], style="yellow")
                complained = True
            if count and shown == count:
                return True
    return False


async def _boards(
    bus: connection.Bus, tick_s: float | None
) -> AsyncGenerator[Mapping[str, traffic.Heard], None]:
    """What is known: as stored, again when more is told, and every `tick_s`."""
    board: Mapping[str, traffic.Heard] = {}
    following = live.follow_stored(bus, streams.STATUS, f"{subjects.ROOT}.stats.>")
    coming = asyncio.ensure_future(anext(following))
    await asyncio.wait({coming})
    try:
        while True:
            if coming.done():
                board = _take(board, coming.result())
                coming = asyncio.ensure_future(anext(following))
            yield board
            await asyncio.wait({coming}, timeout=tick_s)
    finally:
        coming.cancel()
        with contextlib.suppress(asyncio.CancelledError, live.Unreachable):
            await coming


def _take(board: Mapping[str, traffic.Heard], messages: Iterable[Stored]) -> Mapping[str, traffic.Heard]:
    for message in messages:
        try:
            stats = codec.decode(message.subject, message.payload)
        except codec.Undecodable as error:
            output.complain([str(error)])
            continue
        if isinstance(stats, reports.Stats):
            board = traffic.hear(board, traffic.Told(stats, _time_ns(message), time.monotonic()))
    return board


def _time_ns(message: Stored) -> int:
    """When the node read its counters; of an older one that doesn't say, when the server stored it, which it
    tells of live messages only; else 0.
    """
    seen, stored = message.headers.get(envelope.SEEN, ""), message.headers.get("Nats-Time-Stamp", "")
    if seen.isdecimal():
        return int(seen)
    return int(datetime.datetime.fromisoformat(stored).timestamp() * 1e9) if stored else 0
