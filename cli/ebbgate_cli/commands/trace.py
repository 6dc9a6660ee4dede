"""`ebbgate trace`: the last change of a policy or pod, followed from its object to every kernel."""

import time
from typing import Annotated

import typer

from ebbgate_bus.contracts import streams, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.runtime import access, connection
from ebbgate_cli import live, output, recordings, trace_tree, traces
from ebbgate_cli.commands import options

WIDTH = 400
"""Of lines that go into a file: nothing is cut there."""
RECENTLY_S = 600.0
"""Without an argument the last event is looked for so far back."""
SLACK_S = 1.0
"""A journal may have a copy later than what follows from it, and clocks differ."""
_COMMITS = ("plan.all.commit", "plan.node.*.commit")


@options.asking
def command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="POLICY|POD",
            help="A policy's name, or a pod as NAMESPACE/NAME (or NAME, of the namespace default). "
            "Without one: whatever changed last, in the last ten minutes.",
        ),
    ] = "",
    form: options.OutputForm = output.Form.TABLE,
    *,
    reach: access.Access,
) -> None:
    """Show how the last change of a policy or a pod went its way: seen, resolved, in each node's kernel.

    Times are since the watcher saw it; in brackets, milliseconds by stage. It is told from the bus alone, and
    needs no tracing backend. What happened in the last hour is told whole; of what is older some steps may be
    gone, as the bus keeps only the last message of each subject.

    Examples: `ebbgate trace egress-sample`, `ebbgate trace default/mediabot -o json`
    """
    try:
        candidates = [name for name in _subjects(what) if name]
        found = live.run(reach, lambda bus: _find(bus, candidates))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if found is None:
        output.complain(
            [f"nothing is known of {what}: is that its name?" if what else "nothing has happened lately"]
        )
        raise typer.Exit(1)
    if form.is_data:
        output.data(form, traces.as_json(found))
    else:
        out = output.console(soft_wrap=False)
        if not out.is_terminal:
            out = output.console(soft_wrap=False, width=WIDTH)
        out.print(trace_tree.tree(found))


def _subjects(what: str) -> list[str]:
    """Facts that may be meant, the likeliest first. Raises ValueError."""
    if not what:
        return []
    namespace, slash, name = what.rpartition("/")
    pod = subjects.fact("pod", namespace or "default", name)
    return [pod] if slash else [subjects.fact("policy", what), pod]


async def _find(bus: connection.Bus, candidates: list[str]) -> traces.Trace | None:
    messages = await _messages(bus, candidates)
    if not candidates:
        return traces.newest(messages)
    whole_since_s = time.time() - streams.JOURNAL_S
    found = (traces.newest(messages, subject, whole_since_s=whole_since_s) for subject in candidates)
    return next(filter(None, found), None)


async def _messages(bus: connection.Bus, candidates: list[str]) -> list[Stored]:
    """Events first, then what may follow from the last of them: of what happened lately all of it, and of
    what is older what is still there.
    """
    events = await _events(bus, candidates)
    since_s = max(0.0, traces.since_s(events, candidates) - SLACK_S)
    live_ = [f"{subjects.LIVE}.{each}" for each in (*_COMMITS, "status.>", "verdict.>")]
    journal = await recordings.read(bus, streams.JOURNAL, live_, since_s=since_s)
    commits = [f"{subjects.ROOT}.{each}" for each in _COMMITS]
    plan = await recordings.read(bus, streams.PLAN, commits, since_s=since_s)
    status = [f"{subjects.ROOT}.{kind}.>" for kind in ("status", "verdict")]
    reports = await recordings.read(bus, streams.STATUS, status, since_s=since_s)
    # The state first: of a message that is in both, the journal's time is that of its copy.
    return [*events, *plan, *reports, *journal]


async def _events(bus: connection.Bus, candidates: list[str]) -> list[Stored]:
    """Facts that may be meant. Where any may be, only lately: a large cluster has hundreds of thousands."""
    if not candidates:
        recently_s = time.time() - RECENTLY_S
        return await recordings.read(bus, streams.JOURNAL, [f"{subjects.LIVE}.fact.>"], since_s=recently_s)
    journal = await recordings.read(bus, streams.JOURNAL, list(map(subjects.live, candidates)))
    return [*await recordings.read(bus, streams.FACT, candidates), *journal]
