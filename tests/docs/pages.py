"""What README.md and docs/*.md tell people to type: whole commands, as they stand there.

All of a block of shell counts, and within a sentence what begins with one of our programs, or with one that
our pages explain, and has a word more than that. Comments are left out, and what goes over several lines in
a sentence is one line here. Headings don't count.
"""

import pathlib
import re
from collections import defaultdict
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
PROGRAM = re.compile(
    r"(\.venv/bin/)?(ebbgate|ebbgate-(programmer|usher)|helm|kind|kubectl|make|nats|podman|promtool|python"
    r"|cilium|cilium-dbg|ctr|docker|hubble|ip|nft|openssl|tcpdump) "
)
SHELL = ("sh", "bash", "shell", "console")
SYNOPSIS = "[OPTIONS]"
"""What says how a command looks, and isn't one: docs/cli.md begins with it each time."""
_FENCE = re.compile(r"^ *```([a-z]*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`((?:[^`\n]|\n(?!\n))+)`")
_HEREDOC = re.compile(r"<<-?'?(\w+)'?")
_HEADING = re.compile(r"^#+ .*$", re.MULTILINE)
_COMMENT = re.compile(r"(^|\s+)# .*$")


def told() -> dict[str, list[str]]:
    """Command → names of the pages that tell it."""
    found = defaultdict(list)
    for page in PAGES:
        for command in commands(page.read_text()):
            if page.name not in found[command]:
                found[command].append(page.name)
    return dict(found)


def commands(page: str) -> Iterator[str]:
    for language, block in _FENCE.findall(page):
        lines = block.splitlines()
        if language in SHELL and SYNOPSIS not in block:
            yield from _of_block(lines)
        elif not language:
            yield from (line.removeprefix("$ ") for line in lines if line.startswith("$ "))
    for code in _CODE.findall(_HEADING.sub("", _FENCE.sub("", page))):
        # In a table a bar is written \|.
        text = " ".join(code.replace("\\|", "|").split())
        if PROGRAM.match(text):
            yield text


def of_notes(notes: str) -> list[str]:
    """Those of what Helm says after an installation."""
    return [command for command in _of_block(notes.splitlines()) if PROGRAM.match(command)]


def _of_block(lines: list[str]) -> Iterator[str]:
    """One line each, or several that belong together."""
    taken = iter(lines)
    for line in taken:
        command = _COMMENT.sub("", line).strip()
        while command.endswith("\\"):
            command = f"{command[:-1].rstrip()} {_COMMENT.sub('', next(taken)).strip()}"
        if mark := _HEREDOC.search(command):
            while not command.endswith(f"\n{mark[1]}"):
                command = f"{command}\n{next(taken)}"
        if command:
            yield command
