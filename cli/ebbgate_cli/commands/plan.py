"""`ebbgate plan`: arguments, files and exit code; the plan itself is made in `ebbgate_cli.plan`."""

import pathlib
from typing import Annotated

import typer

from ebbgate_cli import output, plan, tables


def command(
    directory: Annotated[
        pathlib.Path,
        typer.Argument(metavar="DIR", exists=True, readable=True, help="Manifests: *.yaml, *.yml, *.json."),
    ],
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

    Exit code 1 if a policy is rejected or a manifest is unusable; all others are planned nonetheless.
    """
    files = ((str(path), path.read_bytes()) for path in plan.files_of(directory))
    planned = plan.plan(files, node or None)
    tables.show(planned.entries, form)
    output.complain(planned.warnings, style="yellow")
    output.complain(planned.troubles)
    raise typer.Exit(1 if planned.troubles else 0)
