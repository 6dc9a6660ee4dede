"""`ebbgate test`: plays stories and says which step differs; for this repository's and for users' own."""

import pathlib
from typing import Annotated

import typer

from ebbgate_cli import output, stories

_DIFFERENT, _NO_STORY = 1, 2


def command(
    files: Annotated[
        list[pathlib.Path],
        typer.Argument(metavar="FILE...", exists=True, dir_okay=False, help="Stories in YAML."),
    ],
) -> None:
    """Play stories, to test policies without a cluster.

    Example: `ebbgate test stories/*.yaml`. A story is a list of steps: the objects that come and go, and
    the rows that are expected after each; tests/stories/README.md describes the format.

    Exit code 1 if a step differs from what its story expects, 2 if a file isn't a story.
    """
    codes = [_play(path) for path in files]
    print(f"{codes.count(0)} passed, {len(codes) - codes.count(0)} failed")
    raise typer.Exit(max(codes))


def _play(path: pathlib.Path) -> int:
    """The exit code that this file alone would give."""
    try:
        story = stories.parse(path.read_bytes())
    except stories.NotAStory as error:
        output.complain([f"{path}: not a story: {error}"])
        return _NO_STORY
    differences = stories.play(story)
    print(f"{'FAILED' if differences else 'passed'}  {story.name}")
    for difference in differences:
        print(f"  step {difference.step}, {difference.title}")
        for line in difference.lines:
            print(f"    {line}")
    return _DIFFERENT if differences else 0
