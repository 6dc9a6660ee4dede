"""`ebbgate policies`: verdicts, from STATUS on the bus."""

import difflib
from typing import Annotated

import typer

from ebbgate_bus.contracts import streams, subjects
from ebbgate_bus.contracts.reports import Verdict
from ebbgate_bus.runtime import access, connection
from ebbgate_cli import columns, live, output, policies
from ebbgate_cli.commands import options


@options.asking
def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Only this policy, in full.")] = "",
    form: options.OutputForm = output.Form.TABLE,
    *,
    reach: access.Access,
) -> None:
    """Show what became of each policy: ready or why not, gateways, egress IPs, pods, nodes programmed.

    With NAME all its conditions, the generations judged and in force, and each gateway's share of pods.

    Example: `ebbgate policies egress-sample`

    Exit code 1 if there is no policy NAME.
    """
    found = live.run(reach, _verdicts)
    if name:
        _one(name, {verdict.policy: verdict for verdict in found}, form)
    elif form.is_data:
        output.data(form, policies.as_json(found))
    elif form is output.Form.WIDE:
        columns.show((*policies.HEADER, *policies.WIDE), list(map(policies.wide_cells, found)))
    else:
        columns.show(policies.HEADER, list(map(policies.cells, found)))


def _one(name: str, found: dict[str, Verdict], form: output.Form) -> None:
    if name not in found:
        near = difflib.get_close_matches(name, found, n=3)
        output.complain(
            [f"no policy {name} is known" + (f"; did you mean {' or '.join(near)}?" if near else "")]
        )
        raise typer.Exit(1)
    if form.is_data:
        output.data(form, policies.as_json(found[name]))
    else:
        print(policies.text(found[name]))


async def _verdicts(bus: connection.Bus) -> list[Verdict]:
    stored = [
        *await live.read(bus, streams.FACT, f"{subjects.ROOT}.fact.policy.>"),
        *await live.read(bus, streams.STATUS, f"{subjects.ROOT}.verdict.>"),
    ]
    return policies.verdicts({message.subject: message.payload for message in stored if message.payload})
