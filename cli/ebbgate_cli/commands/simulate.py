"""`ebbgate simulate`: what manifests would change, before they are applied. Arguments and exit codes."""

import pathlib
from typing import Annotated

import typer

from ebbgate_bus.runtime import access
from ebbgate_cli import amending, output, plan, simulations
from ebbgate_cli.commands import options
from ebbgate_resolver.core import simulation
from ebbgate_watcher.core import objects

_UNUSABLE, _USAGE, _CHANGES = 1, 2, 3


@options.asking
def command(
    directory: Annotated[
        pathlib.Path | None,
        typer.Argument(metavar="DIR", callback=options.there, help="The same as --apply DIR."),
    ] = None,
    *,
    apply: Annotated[
        list[pathlib.Path] | None,
        typer.Option(
            "--apply",
            "--filename",
            "-f",
            metavar="PATH",
            callback=options.there,
            help="Manifests to be applied: a directory, a file, or - for standard input.",
        ),
    ] = None,
    delete: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND/NAME", help="An object to be deleted, as policy/NAME or pod/NAMESPACE/NAME."
        ),
    ] = None,
    folder: options.Folder = None,
    reach: access.Access,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit code 3 if something changes.")] = False,
    form: options.OutputForm = output.Form.TABLE,
) -> None:
    """Show which pods' egress would change, and how, if manifests were applied. Nothing is applied.

    The starting point is the cluster, as it is on the bus, or with `--from DIR` a directory of manifests.
    What the cluster adds to objects (age, addresses, nodes) stays; deletions come after what is applied.

    With `-f -` manifests come from standard input, so that what kubectl or kustomize prints can be piped.

    Example: `ebbgate simulate --apply policy.yaml --delete policy/old --exit-code`

    Exit code 1 if a manifest can't be used, 2 if there is nothing to simulate, 3 see --exit-code.
    """
    paths = [path for path in (directory, *(apply or ())) if path is not None]
    if not paths and not delete:
        output.complain(["nothing to simulate: name manifests (DIR, --apply) or objects to --delete"])
        raise typer.Exit(_USAGE)
    if plan.STDIN in paths and folder == plan.STDIN:
        raise typer.BadParameter("standard input can't be both what is there and what is applied")
    seen = options.read_scene(folder, reach)
    observed, broken = _read(paths)
    try:
        after = amending.deleted(amending.applied(seen.facts, observed), delete or ())
    except amending.NotNamed as error:
        output.complain([f"--delete: {error}"])
        raise typer.Exit(_USAGE) from error
    told = simulation.simulate(seen.facts, after, seen.held, seen.setting)
    if form.is_data:
        output.data(form, simulations.as_json(told))
    else:
        print(simulations.text(told))
    changed = exit_code and not told.is_empty
    raise typer.Exit(_UNUSABLE if broken else _CHANGES if changed else 0)


def _read(paths: list[pathlib.Path]) -> tuple[list[objects.Observed], bool]:
    """The objects, and whether there were others that should have been among them. Says which, and why."""
    troubles: list[str] = []
    found: list[objects.Observed] = []
    ignored: list[str] = []
    for origin, each in plan.objects_of(plan.contents(paths), troubles):
        if isinstance(each, objects.Observed):
            found.append(each)
            ignored += [f"{origin}: {each.kind} {each.uid}: {warning}" for warning in each.warnings]
        else:
            # A manifest of another kind changes no pod's egress, and directories are full of them.
            other = each.kind and each.kind not in {kind.fact for kind in objects.KINDS.values()}
            (ignored if other else troubles).append(f"{origin}: {each.kind} {each.name}: {each.reason}")
    output.complain(ignored, style="yellow")
    output.complain(troubles)
    return found, bool(troubles)
