"""`ebbgate drops`: packets that nodes drop, as they drop them. Arguments and output; the words are in
`ebbgate_cli.drops`.
"""

import asyncio
import contextlib
import datetime
from typing import Annotated

import typer

from ebbgate_bus.contracts import codec, reports, subjects
from ebbgate_bus.runtime import access, connection
from ebbgate_cli import drops, live, output
from ebbgate_cli.commands import options

_USAGE = 2


@options.asking
def command(
    policy: Annotated[str, typer.Option(help="Only of this policy.")] = "",
    pod: Annotated[str, typer.Option(metavar="NAMESPACE/NAME", help="Only of this pod.")] = "",
    node: Annotated[str, typer.Option(help="Only those that this node dropped.")] = "",
    reason: Annotated[str, typer.Option(help=f"Only for this reason: {', '.join(drops.TOLD)}.")] = "",
    *,
    count: Annotated[int, typer.Option(min=0, help="End after so many; 0: go on until Ctrl-C.")] = 0,
    seconds: Annotated[float, typer.Option(min=0, help="End after so long; 0: go on until Ctrl-C.")] = 0,
    form: options.OutputForm = output.Form.TABLE,
    reach: access.Access,
) -> None:
    """Print packets that nodes drop, one on a line, from now on: who, to where, why, and what to do.

    A node tells some fifty a second for each of its CPUs, whoever listens, and keeps none; all are counted in
    `ebbgate top`. The guards of nftables and a lack of free ports are only counted there.

    Example: `ebbgate drops --pod default/mediabot --seconds 10`
    """
    wanted = drops.Wanted(policy, pod if "/" in pod or not pod else f"default/{pod}", node, reason)
    if reason in drops.COUNTED:
        output.complain([f"{reason} is only counted: `ebbgate top` shows it"])
        raise typer.Exit(_USAGE)
    if reason and reason not in drops.REASONS:
        output.complain([f"no node gives the reason {reason}; there are {', '.join(drops.TOLD)}"])
        raise typer.Exit(_USAGE)
    with contextlib.suppress(KeyboardInterrupt):
        live.run(reach, lambda bus: _print(bus, wanted, (count, seconds), form))


async def _print(
    bus: connection.Bus, wanted: drops.Wanted, limits: tuple[int, float], form: output.Form
) -> None:
    count, seconds = limits
    printed = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds or None):
            async for message in live.follow(bus, f"{subjects.ROOT}.drop.>"):
                printed += _print_one(message.subject, message.payload, wanted, form)
                if count and printed == count:
                    return


def _print_one(subject: str, payload: bytes, wanted: drops.Wanted, form: output.Form) -> bool:
    try:
        drop = codec.decode(subject, payload)
    except codec.Undecodable as error:
        output.complain([str(error)])
        return False
    if not isinstance(drop, reports.Dropped) or not wanted.has(drop):
        return False
    now = datetime.datetime.now(datetime.UTC)
    if form.is_data:
        output.data(form, drops.as_json(drop, now.isoformat(timespec="milliseconds")), one_of_many=True)
    else:
        print(drops.line(drop, now.strftime("%H:%M:%S.%f")[:12]), flush=True)
    return True
