"""A trace as a tree of lines: who did what, when after the event, for how long, and on which stages. Pure."""

import datetime

from rich.text import Text
from rich.tree import Tree

from ebbgate_cli.traces import Step, Trace

_COLOURS = {"watcher": "cyan", "resolver": "blue"}
_NODE_COLOUR = "green"
_SMALL_MS = 0.05
"""A stage that took less is left out of the line; `-o json` has all."""


def tree(found: Trace) -> Tree:
    seen = datetime.datetime.fromtimestamp(found.seen_ns / 1e9, datetime.UTC)
    head = Text(found.about, style="bold")
    head.append(f"  {seen:%Y-%m-%d %H:%M:%S}.{seen.microsecond // 1000:03d} UTC", style="default not bold")
    head.append(f"  trace {found.trace}", style="dim not bold")
    made = Tree(head, guide_style="dim")
    _hang(made, found.root)
    if found.kernel_ns:
        made.add(Text(f"in the last kernel after {_ms(found.kernel_ns)}", style="bold"))
    elif not found.root.steps:
        made.add(
            Text(
                "nothing is known to have followed: no node's plan was changed, or by many events at once",
                style="yellow",
            )
        )
    return made


def _hang(parent: Tree, step: Step) -> None:
    branch = parent.add(_line(step))
    for trouble in step.troubles:
        branch.add(Text(trouble, style="red"))
    for each in step.steps:
        _hang(branch, each)


def _line(step: Step) -> Text:
    line = Text(step.who, style=f"bold {_COLOURS.get(step.who, _NODE_COLOUR)}")
    line.append(f"  +{_ms(step.at_ns)}, took {_ms(step.took_ns)}: ", style="default not bold")
    line.append("; ".join(step.says) or "said nothing that is still known", style="default not bold")
    stages = [f"{name} {took:.1f}" for name, took in step.stages.items() if took >= _SMALL_MS]
    if stages:
        line.append(f"  [{', '.join(stages)}]", style="dim not bold")
    if step.shared:
        line.append("  (together with another event)", style="yellow not bold")
    return line


def _ms(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.1f} ms"
