"""Options that several commands have, and what those that ask the bus have in common."""

import functools
import inspect
import pathlib
from collections.abc import Callable
from typing import Annotated, Any

import typer

from ebbgate_bus.runtime import access
from ebbgate_cli import live, output, plan, scene


def there(value: pathlib.Path | list[pathlib.Path] | None) -> pathlib.Path | list[pathlib.Path] | None:
    """`value`, which is there, or is standard input: that typer's own `exists` refuses, with `allow_dash`,
    too.
    """
    for path in value if isinstance(value, list) else [value]:
        if path not in (None, plan.STDIN) and not path.exists():
            raise typer.BadParameter(f"path '{path}' does not exist.")
    return value


OutputForm = Annotated[output.Form, typer.Option("-o", "--output", help="Form of the answer.")]
Folder = Annotated[
    pathlib.Path | None,
    typer.Option(
        "--from",
        metavar="DIR",
        callback=there,
        help="Ask these manifests (a directory, a file, or - for standard input), not the bus.",
    ),
]
Files = Annotated[
    list[pathlib.Path] | None,
    typer.Option(
        "--filename",
        "-f",
        metavar="PATH",
        callback=there,
        help="Manifests: a directory, a file, or - for standard input.",
    ),
]
_SAID = "ebbgate.said"
UNREACHABLE = 2
"""Exit code: no answer, neither a good one nor a bad one."""
URL_HELP = (
    "NATS servers, separated by commas; or kubectl:[NAMESPACE], by a port that kubectl forwards; or "
    "context:[NAME] of the nats tool."
)


def reaching(command: Callable[..., None], *, hidden: bool = False) -> Callable[..., None]:
    """`command` with the options that say which bus is meant, and as whom; as `reach` if it wants to know.
    `hidden`: those that `ebbgate --help` tells of aren't told again.
    """
    wanted = inspect.signature(command).parameters
    names = [each.name for each in _parameters(hidden=hidden)]

    @functools.wraps(command)
    def with_options(context: typer.Context, **given: Any) -> None:
        files = {name.removeprefix("nats_"): given.pop(name) for name in names}
        if "reach" in wanted:
            given["reach"] = _access(context.meta.get(_SAID, set()), **files)
        command(**given)

    own = [each for each in wanted.values() if each.name != "reach"]
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [context, *own, *_parameters(hidden=hidden)]
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_options


def asking(command: Callable[..., None]) -> Callable[..., None]:
    """`command`, which asks the bus at its `reach`; where that can't be reached, why, on standard error."""

    @functools.wraps(command)
    def asked(**given: Any) -> None:
        try:
            command(**given)
        except live.Unreachable as error:
            output.complain([str(error)])
            raise typer.Exit(UNREACHABLE) from error

    return reaching(asked, hidden=True)


def read_scene(folder: pathlib.Path | None, reach: access.Access) -> scene.Scene:
    """What is known, from the one place or the other; what can't be read is named on standard error. Raises
    live.Unreachable.
    """
    found = scene.from_folder(folder) if folder else live.run(reach, scene.read)
    output.complain(found.troubles, style="yellow")
    return found


def _parameters(*, hidden: bool) -> list[inspect.Parameter]:
    files = {"ca": access.CA_HELP, **access.IDENTITIES}
    return [
        _parameter(
            "nats",
            access.URL,
            Annotated[str, _option("--nats", "URL", "EBBGATE_NATS_URL", help=URL_HELP)],
        ),
        *(
            _parameter(
                f"nats_{name}",
                None,
                Annotated[
                    pathlib.Path | None,
                    _option(
                        f"--nats-{name}", "FILE", f"EBBGATE_NATS_{name.upper()}", help=text, hidden=hidden
                    ),
                ],
            )
            for name, text in files.items()
        ),
    ]


def _parameter(name: str, default: str | None, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _option(flag: str, metavar: str, variable: str, **more: Any) -> Any:
    return typer.Option(flag, metavar=metavar, envvar=variable, callback=_in_force, **more)


def _in_force(context: typer.Context, option: typer.CallbackParam, value: Any) -> Any:
    """What stands after the command counts before what stands before it, and that before the environment."""
    source = context.get_parameter_source(str(option.name))
    if source is not None and source.name == "COMMANDLINE":
        context.meta[f"ebbgate.{option.name}"] = value
        context.meta.setdefault(_SAID, set()).add(str(option.name).removeprefix("nats_"))
    return context.meta.setdefault(f"ebbgate.{option.name}", value)


def _access(
    said: set[str], *, nats: str, ca: pathlib.Path | None, **files: pathlib.Path | None
) -> access.Access:
    """`said`: names of what stands on the command line; the rest is the environment's."""
    on_line = {name: path for name, path in files.items() if name in said}
    try:
        return access.as_one(access.Access(url=nats, ca=ca), on_line, files)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
