"""`ebbgate`: the command line's composition root. One module per command; this one only lists them."""

import pathlib
from typing import Annotated

import typer

from ebbgate_bus.runtime import access, service
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
    help="Ebbgate: pods leave the cluster with a fixed source IP. Ask what it does, or would do.",
    epilog="With kubectl-ebbgate on the PATH, `kubectl ebbgate …` is the same.",
    no_args_is_help=True,
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


File = pathlib.Path | None


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
    ca: Annotated[
        File, typer.Option("--nats-ca", envvar="EBBGATE_NATS_CA", metavar="FILE", help=access.CA_HELP)
    ] = None,
    nkey: Annotated[
        File, typer.Option("--nats-nkey", envvar="EBBGATE_NATS_NKEY", metavar="FILE", help=access.NKEY_HELP)
    ] = None,
    token: Annotated[
        File,
        typer.Option("--nats-token", envvar="EBBGATE_NATS_TOKEN", metavar="FILE", help=access.TOKEN_HELP),
    ] = None,
    creds: Annotated[
        File,
        typer.Option("--nats-creds", envvar="EBBGATE_NATS_CREDS", metavar="FILE", help=access.CREDS_HELP),
    ] = None,
) -> None:
    """How to reach the bus stands before the command: ebbgate --nats-ca FILE --nats-nkey FILE list."""
    try:
        options.remember(access.as_one(access.Access(ca=ca), nkey=nkey, token=token, creds=creds))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def main() -> None:
    app()


if __name__ == "__main__":
    main()
