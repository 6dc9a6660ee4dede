"""`ebbgate`: the command line's composition root. One module per command; this one only lists them."""

import pathlib
from typing import Annotated

import typer

from ebbgate_bus.runtime import access
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
)

app = typer.Typer(
    name="ebbgate",
    help="Ebbgate: pods leave the cluster with a fixed source IP. Ask what it does, or would do.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("status")(status.command)
app.command("list")(listing.command)
app.command("nodes")(nodes.command)
app.command("tap")(tap.command)
app.command("top")(top.command)
app.command("drops")(drops.command)
app.command("explain")(explain.command)
app.command("policies")(policies.command)
app.command("simulate")(simulate.command)
app.command("plan")(plan.command)
app.command("test")(stories.command)
app.command("bugreport")(bugreport.command)


File = pathlib.Path | None


@app.callback()
def _root(
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
) -> None:
    """How to reach the bus stands before the command: ebbgate --nats-ca FILE --nats-nkey FILE list."""
    if nkey and token:
        raise typer.BadParameter("--nats-nkey and --nats-token: one is who you are, and there can't be two")
    options.remember(access.Access(ca=ca, nkey=nkey, token=token))


def main() -> None:
    app()


if __name__ == "__main__":
    main()
