"""`ebbgate status`: all of it on one screen."""

import asyncio
import contextlib
import datetime
import time

import msgspec
import typer
from rich import text

from ebbgate_bus.contracts import codec, reports, streams, subjects
from ebbgate_bus.runtime import access, connection, jetstream, service
from ebbgate_cli import lags, live, output, overview, recordings
from ebbgate_cli.commands import options

LISTEN_S = 2.5 * service.BEAT_INTERVAL_S
"""Who lives is heard twice meanwhile."""


@options.asking
def command(*, form: options.OutputForm = output.Form.TABLE, reach: access.Access) -> None:
    """Show at a glance whether Ebbgate works: bus, watcher, resolver, usher, programmers, policies; who is
    behind; what is wrong, and what to do about it.

    Takes some seconds, as it listens for who is alive. Who is behind for ten seconds is something wrong.

    Exit code 1 if something is wrong, 2 if the bus can't be reached.
    """
    seen = live.run(reach, look)
    found = overview.of(seen)
    if form.is_data:
        output.data(form, msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        _show(found)
    raise typer.Exit(1 if found.troubles else 0)


def _show(found: overview.Overview) -> None:
    out = output.console()
    count = len(found.troubles)
    verdict = (
        "works" if not count else f"needs a look: {count} {'thing is' if count == 1 else 'things are'} wrong"
    )
    version = ", ".join(found.versions) or "(nobody is alive)"
    out.print(text.Text(f"Ebbgate {version} {verdict}", style="bold green" if not count else "bold yellow"))
    out.print()
    width = max(len(part.name) for part in found.parts)
    for part in found.parts:
        out.print(text.Text.assemble(("  " + part.name.ljust(width), "bold"), "   ", part.says))
    for trouble in found.troubles:
        out.print()
        out.print(text.Text.assemble(("✗ ", "red"), trouble.what))
        out.print(text.Text(f"  → {trouble.to_do}", style="dim"))


async def look(bus: connection.Bus) -> overview.Seen:
    """What is there first, then who lives, then what they report: what lacks there has had its time."""
    server, root, began = await _server(bus), subjects.ROOT, time.monotonic()
    if server.missing:
        return overview.Seen(server, await _listen(bus), (), ())
    objects = await live.read(bus, streams.FACT, f"{root}.fact.node.>", f"{root}.fact.policy.>")
    commits = await recordings.read(bus, streams.PLAN, lags.COMMITS)
    beats = await _listen(bus)
    reported = await live.read(bus, streams.STATUS, f"{root}.status.>", f"{root}.verdict.>")
    states, verdicts = overview.known(
        {message.subject: message.payload for message in (*objects, *commits, *reported) if message.payload}
    )
    services = lags.of_services(beat for beat in beats if beat.service in overview.SERVICES)
    asked_at_s = next(each.asked_at_s for each in server.streams if each.name == streams.PLAN.name)
    now_s = asked_at_s + time.monotonic() - began
    late = await lags.of_nodes(bus, states, commits, now_s)
    return overview.Seen(server, beats, states, verdicts, (*services, *late), bus.reach.token is not None)


async def _listen(bus: connection.Bus) -> tuple[reports.Beat, ...]:
    """The last of each."""
    beats: dict[str, reports.Beat] = {}
    subscription = await bus.subscribe(f"{subjects.ROOT}.beat.>")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LISTEN_S):
            async for message in subscription.messages:
                with contextlib.suppress(codec.Undecodable):
                    beats[message.subject] = codec.decode_as(reports.Beat, message.subject, message.data)
    return tuple(beats[name] for name in sorted(beats))


async def _server(bus: connection.Bus) -> overview.Server:
    held, missing = [], []
    for stream in streams.STREAMS:
        try:
            answer = await jetstream.request(bus, f"STREAM.INFO.{stream.name}", {})
        except jetstream.ApiError:
            missing.append(stream.name)
        else:
            state = answer["state"]
            asked_at_s = datetime.datetime.fromisoformat(answer["ts"]).timestamp()
            held.append(overview.Stream(stream.name, state["messages"], state["bytes"], asked_at_s))
    version = bus.connected_server_version
    text_ = f"{version.major}.{version.minor}.{version.patch}"
    return overview.Server(bus.reach.shown, text_, tuple(held), tuple(missing))
