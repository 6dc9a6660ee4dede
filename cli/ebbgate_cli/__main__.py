"""`ebbgate`: the command line's composition root. One module per command; this one only lists them."""

import typer

from ebbgate_cli.commands import (
    bugreport,
    drops,
    explain,
    listing,
    nodes,
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


@app.callback()
def _root() -> None:
    """Without it typer would make a lone command the whole program."""


def main() -> None:
    app()


if __name__ == "__main__":
    main()
