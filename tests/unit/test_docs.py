"""What README and docs tell people to type exists: commands, their options, make's targets; each is typed by
a test, or it is said why not; and links lead somewhere.
"""

import pathlib
import re
import shlex
import textwrap

import pytest
import typer.main

from ebbgate_cli import __main__ as cli
from tests.docs import pages, register

ROOT = pathlib.Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "tests/stories/*.md", "deploy/**/*.md")
    for path in ROOT.glob(pattern)
    if ".venv" not in path.parts
)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
FENCE = re.compile(r"```[a-z]*\n(.*?)```", re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)#]+)(#[^)]*)?\)")
TYPED = re.compile(r"(?:^|[;&|$] )(?:sudo )?(?:\.venv/bin/|kubectl )?(ebbgate|make) ([^#\n]+)")


def typed(page: pathlib.Path) -> list[tuple[str, list[str]]]:
    """(program, arguments) of what the page says to type, in blocks or within a sentence."""
    text = page.read_text()
    lines = [line.strip() for block in FENCE.findall(text) for line in block.splitlines()]
    lines += CODE.findall(FENCE.sub("", text))
    found = [(each[1], each[2]) for line in lines if (each := TYPED.search(line))]
    return [(program, _words(rest)) for program, rest in found if not rest.startswith(("…", "["))]


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _options(command: str) -> set[str]:
    return {option for each in COMMANDS[command].params for option in (*each.opts, *each.secondary_opts)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_is_to_be_typed_exists(page: pathlib.Path) -> None:
    for program, words in typed(page):
        if program == "make":
            targets = [word for word in words if re.fullmatch(r"[a-z][a-z-]*", word)]
            assert targets[:1] == [] or targets[0] in TARGETS, words
        elif not words[0].startswith("-"):
            assert words[0] in COMMANDS, words
            given = {word.partition("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)}
            assert given <= _options(words[0]) | {"--help"}, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: pathlib.Path) -> None:
    for target, anchor in LINK.findall(page.read_text()):
        if "://" in target:
            continue
        path = page.parent / target
        assert path.exists(), target
        if anchor and path.suffix == ".md":
            heads = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
            assert anchor[1:] in {_anchor(head) for head in heads}, target + anchor


def _anchor(head: str) -> str:
    return re.sub(r"[^a-z0-9 _-]", "", head.lower()).replace(" ", "-")


RUN = (
    *register.BUS,
    *register.SECURED,
    *register.MADE,
    *register.ASKED,
    *register.HEARD,
    *register.ON_NODES,
    *register.LOOKED,
    *register.DEPLOYED,
    *register.BY_CI,
)
NOT_RUN = [command for commands in register.NOT_RUN.values() for command in commands]


def test_each_command_is_typed_by_a_test_or_it_is_said_why_not() -> None:
    told = pages.told()
    unknown = {command: where for command, where in told.items() if command not in {*RUN, *NOT_RUN}}
    assert unknown == {}, "put it into tests/docs/register.py"
    assert {*RUN, *NOT_RUN} - told.keys() == set(), "no page tells it any more"
    assert set(RUN) & set(NOT_RUN) == set()
    assert len(NOT_RUN) == len(set(NOT_RUN))
    assert (ROOT / ".ci/run").read_text().endswith(f"exec {register.BY_CI[0]}\n")


def test_commands_are_found_wherever_a_page_has_them() -> None:
    page = """
    # `ebbgate heading`
    ```sh
    one --a \\
      --b   # why
    # nothing
    two <<EOF
    text
    EOF
    ```
    ```
    $ three
    its answer
    ```
    `ebbgate four
    --five`, `ebbgate`, `ebbgate [A\\|B]`, `EBBGATE_X`
    """
    found = list(pages.commands(textwrap.dedent(page)))
    assert found == ["one --a --b", "two <<EOF\ntext\nEOF", "three", "ebbgate four --five", "ebbgate [A|B]"]


def test_there_is_something_to_test() -> None:
    told = [(program, words[0]) for page in PAGES for program, words in typed(page)]
    assert len(PAGES) > 20
    assert ("make", "demo") in told
    assert {words for program, words in told if program == "ebbgate"} >= {"tap", "explain", "policies"}
