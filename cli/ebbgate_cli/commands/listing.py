"""`ebbgate list`: the rows in force, read from PLAN on the bus."""

from typing import Annotated

import typer

from ebbgate_bus.contracts import codec, streams, subjects
from ebbgate_bus.runtime import access, connection
from ebbgate_cli import lines, live, output, tables
from ebbgate_cli.commands import options
from ebbgate_resolver.core import listing

NAMED_MAX = 5


@options.asking
def command(
    node: Annotated[
        str, typer.Option(help="List what this node sees; else each egress IP, as its gateway sees it.")
    ] = "",
    form: options.OutputForm = output.Form.TABLE,
    *,
    reach: access.Access,
) -> None:
    """List which pod leaves by which gateway, with which egress IP.

    The columns, words and JSON keys are those of `cilium-dbg bpf egress list`. A gateway of "Not Found" means
    that the traffic is dropped, "Excluded CIDR" that it isn't steered.

    Example: `ebbgate list --node node2 -o json`

    Exit code 1 if there is no node NODE.
    """
    rows_ = live.run(reach, _rows)
    known = {name.node for name in map(subjects.parse, rows_) if name and name.node}
    if node and node not in known:
        output.complain(
            [f"no node {node} is known; there are: {lines.few(sorted(known), NAMED_MAX) or 'none'}"]
        )
        raise typer.Exit(1)
    tables.show(listing.entries(rows_, node or None), form)


async def _rows(bus: connection.Bus) -> dict[str, bytes]:
    plan = f"{subjects.ROOT}.plan"
    stored = await live.read(bus, streams.PLAN, f"{plan}.all.>", f"{plan}.node.>")
    return _readable({message.subject: message.payload for message in stored if message.payload})


def _readable(payloads: dict[str, bytes]) -> dict[str, bytes]:
    """Rows that can be read; each other one gets a line on standard error."""
    good = {}
    for subject, payload in payloads.items():
        try:
            codec.decode(subject, payload)
        except codec.Undecodable as error:
            output.complain([str(error)])
        else:
            good[subject] = payload
    return good
