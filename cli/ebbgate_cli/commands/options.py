"""Options that several commands have."""

import contextvars
import pathlib
from typing import Annotated

import msgspec
import typer

from ebbgate_bus.runtime import access
from ebbgate_cli import live, output, scene

Url = Annotated[
    str,
    typer.Option(
        "--nats",
        metavar="URL",
        envvar="EBBGATE_NATS_URL",
        help="NATS servers, separated by commas; or kubectl:[NAMESPACE], by a port that kubectl forwards; or "
        "context:[NAME] of the nats tool.",
    ),
]
OutputForm = Annotated[output.Form, typer.Option("-o", "--output", help="Form of the answer.")]
Folder = Annotated[
    pathlib.Path | None,
    typer.Option(
        "--from", metavar="DIR", exists=True, help="Ask these manifests (a directory or a file), not the bus."
    ),
]
URL = live.DEFAULT_URL


def access_to(url: str) -> access.Access:
    """The bus at `url`, with what `ebbgate` itself was told: see `remember`."""
    return msgspec.structs.replace(_said.get(access.Access()), url=url)


def remember(said: access.Access) -> None:
    _said.set(said)


_said: contextvars.ContextVar[access.Access] = contextvars.ContextVar("access")


def fail(error: live.Unreachable) -> typer.Exit:
    """What to raise when the bus can't be reached: says why on standard error, exit code 1."""
    output.complain([str(error)])
    return typer.Exit(1)


def read_scene(folder: pathlib.Path | None, nats: str) -> scene.Scene:
    """What is known, from the one place or the other; what can't be read is named on standard error."""
    try:
        found = scene.from_folder(folder) if folder else live.run(access_to(nats), scene.read)
    except live.Unreachable as error:
        raise fail(error) from error
    output.complain(found.troubles, style="yellow")
    return found
