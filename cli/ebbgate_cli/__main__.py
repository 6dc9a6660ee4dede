"""`ebbgate`: the command line's composition root. One module per command; this one only lists them."""

from typing import Annotated

import typer

from ebbgate_bus.runtime import service
from ebbgate_cli.commands import (
    bugreport,
    drops,
    explain,
    listing,
    nodes,
    options,
    plan,
    policies,
    simulate,
    status,
    stories,
    tap,
    top,
    trace,
)

app = typer.Typer(
    name="ebbgate",
    epilog="With kubectl-ebbgate on the PATH, `kubectl ebbgate …` is the same.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
COMMANDS = (
    ("status", status.command, "Does it work? All of it on one screen."),
    ("policies", policies.command, "What became of each policy."),
    ("explain", explain.command, "What happens to a packet, and why."),
    ("list", listing.command, "Which pod leaves by which gateway, with which IP."),
    ("nodes", nodes.command, "What each node's kernel holds."),
    ("top", top.command, "Live traffic by policy, egress IP and node."),
    ("drops", drops.command, "Packets that nodes drop, and why."),
    ("trace", trace.command, "How a change went from its object to the kernels."),
    ("tap", tap.command, "What is said on the bus, what changed, and why."),
    ("simulate", simulate.command, "What manifests would change."),
    ("plan", plan.command, "The rows that manifests would give; no cluster."),
    ("test", stories.command, "Play stories, to test policies; no cluster."),
    ("bugreport", bugreport.command, "One archive of what is known."),
)
"""What people ask first comes first."""
for name, command, short in COMMANDS:
    app.command(name, short_help=short)(command)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"ebbgate {service.VERSION}")
        raise typer.Exit


@app.callback()
@options.reaching
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Ebbgate: pods leave the cluster with a fixed source IP. Ask what it does, or would do.

    What says how to reach the bus may stand before the command or after it.

    Exit codes: 0 all is well, 1 something is wrong, 2 there is no answer: the bus can't be reached, or the
    arguments can't be understood.
    """


def main() -> None:
    app()


if __name__ == "__main__":
    main()
