"""`ebbgate plan`: arguments, files and exit code; the plan itself is made in `ebbgate_cli.plan`."""

import pathlib
from typing import Annotated

import typer

from ebbgate_cli import output, plan, tables
from ebbgate_cli.commands import options


def command(
    directory: Annotated[
        pathlib.Path | None,
        typer.Argument(
            metavar="DIR",
            callback=options.there,
            help="Manifests: *.yaml, *.yml, *.json; a file, or - for standard input.",
        ),
    ] = None,
    filename: options.Files = None,
    node: Annotated[
        str, typer.Option(help="List what this node holds; else each egress IP, as its gateway sees it.")
    ] = "",
    form: Annotated[
        output.Form, typer.Option("-o", "--output", help="Form of the list.")
    ] = output.Form.TABLE,
) -> None:
    """Show the rows that manifests would give. Needs no cluster and no bus.

    Example: `ebbgate plan manifests/ --node node2` lists what node2 would hold. NodeNetwork manifests
    (ebbgate.io/v1alpha1) stand for what nodes report of themselves; without them no egress IP is found.

    With `-f -` manifests come from standard input, so that what kubectl or kustomize prints can be piped.

    Exit code 1 if a policy is rejected or a manifest is unusable; all others are planned nonetheless.
    """
    paths = [path for path in (directory, *(filename or ())) if path is not None]
    if not paths:
        raise typer.BadParameter("name manifests: DIR, or --filename")
    planned = plan.plan(plan.contents(paths), node or None)
    tables.show(planned.entries, form)
    output.complain(planned.warnings, style="yellow")
    output.complain(planned.troubles)
    raise typer.Exit(1 if planned.troubles else 0)
