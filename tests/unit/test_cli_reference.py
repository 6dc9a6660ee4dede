"""The command line as it is documented, and as a shell completes it."""

import pathlib
import subprocess
import sys

from typer.testing import CliRunner

from ebbgate_cli import __main__ as cli

PAGE = pathlib.Path(__file__).parents[2] / "docs/cli.md"


def test_the_page_is_what_help_says(tmp_path: pathlib.Path) -> None:
    made = tmp_path / "cli.md"
    command = [sys.executable, "-m", "typer", "ebbgate_cli.__main__", "utils", "docs"]
    subprocess.run([*command, "--name", "ebbgate", "--output", str(made)], check=True, capture_output=True)
    assert PAGE.read_text() == made.read_text(), "run make reference"


def test_every_command_has_an_example_or_needs_none() -> None:
    for name, _, short in cli.COMMANDS:
        told = CliRunner().invoke(cli.app, [name, "--help"]).output
        assert "Example" in told or name in ("status", "nodes"), name
        assert len(short) <= 50


def test_a_shell_completes_commands() -> None:
    assert _completed("ebbgate pol") == ["policies"]


def test_a_shell_completes_kinds() -> None:
    assert _completed("ebbgate tap --kind plan.e") == ["plan.egress", "plan.endpoint"]


def _completed(words: str) -> list[str]:
    environment = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    program = pathlib.Path(sys.executable).with_name("ebbgate")
    done = subprocess.run(
        [program],
        env=environment | {"_EBBGATE_COMPLETE": "complete_bash"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.split()
