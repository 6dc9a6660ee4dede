"""`ebbgate nodes`: what each node's kernel holds, and whether it is up to date."""

import msgspec

from ebbgate_bus.contracts import streams, subjects
from ebbgate_bus.runtime import access, connection
from ebbgate_cli import columns, live, nodes, output
from ebbgate_cli.commands import options


@options.asking
def command(*, form: options.OutputForm = output.Form.TABLE, reach: access.Access) -> None:
    """Show each node: state, endpoints, egress IPs in its kernel, revisions applied, problems.

    STATE is Current, Behind (a later revision isn't applied yet) or NoProgrammer (it has never reported).
    """
    states = live.run(reach, _states)
    if form.is_data:
        output.data(form, msgspec.json.format(msgspec.json.encode(states), indent=2).decode())
    elif form is output.Form.WIDE:
        columns.show((*nodes.HEADER, *nodes.WIDE), [nodes.cells(each) + nodes.wide(each) for each in states])
    else:
        columns.show(nodes.HEADER, [nodes.cells(state) for state in states])


async def _states(bus: connection.Bus) -> list[nodes.NodeState]:
    root = subjects.ROOT
    found = [
        *await live.read(bus, streams.FACT, f"{root}.fact.node.>"),
        *await live.read(bus, streams.PLAN, f"{root}.plan.all.commit", f"{root}.plan.node.>"),
        *await live.read(bus, streams.STATUS, f"{root}.status.>"),
    ]
    return nodes.states({message.subject: message.payload for message in found})
