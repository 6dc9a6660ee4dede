"""`python -m ebbgate_lab.pages docs`: pages made of what the programs and the chart say themselves: each
service's `--help`, and the chart's values by their schema, from which the comments of values.yaml are, too.
A test holds them against it.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

CHART = pathlib.Path(__file__).parents[2] / "helm" / "ebbgate"
COMMANDS = (
    ("watcher",),
    ("resolver",),
    *(("programmer", command) for command in ("run", "check", "doctor", "clean")),
    *(("usher", command) for command in ("serve", "credentials", "reload")),
)
COLUMNS = "100"
VALUES = CHART / "values.yaml"
OPENING = (
    "# What each value means is in values.schema.json, by which Helm checks all: `make reference`",
    "# writes these comments from it. What is said of the pods of one isn't said again of the others'.",
)
_KEY = re.compile(r"^( *)([A-Za-z]+):")
_WIDTH = 110


def pages() -> dict[str, str]:
    """File name → text."""
    return {"settings.md": "\n".join(_settings()), "values.md": "\n".join(_values())}


def _settings() -> Iterator[str]:
    yield "# Settings of the services"
    yield ""
    yield "What each program's `--help` says; made by `make reference`. In parentheses the environment's"
    yield "names: the chart sets those. The command line has [a page of its own](cli.md)."
    for service, *command in COMMANDS:
        yield ""
        yield f"## {' '.join([f'ebbgate-{service}', *command])}"
        yield ""
        yield "```"
        yield _help(service, *command).rstrip()
        yield "```"
    yield ""


def _help(service: str, *command: str) -> str:
    argv = [sys.executable, "-m", f"ebbgate_{service}", *command, "--help"]
    # What the environment says would be shown as a default.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("EBBGATE_")}
    told = subprocess.run(
        argv, env=plain | {"COLUMNS": COLUMNS}, capture_output=True, text=True, check=True
    ).stdout
    return told.replace("__main__.py", f"ebbgate-{service}")


def _values() -> Iterator[str]:
    yield "# Values of the chart"
    yield ""
    yield "Made by `make reference` of [values.schema.json](../deploy/helm/ebbgate/values.schema.json),"
    yield "which Helm checks all values against. What to do with them: [install.md](install.md)."
    yield ""
    yield "| value | default | |"
    yield "|---|---|---|"
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load(VALUES.read_text())
    yield from _rows("", schema, values)
    yield ""


def _rows(path: str, schema: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[str]:
    for name, below in schema["properties"].items():
        if name not in values:  # `global`, which is Helm's
            continue
        here, value = f"{path}{name}", values[name]
        if "properties" in below:
            yield from _rows(f"{here}.", below, value)
        else:
            yield f"| `{here}` | `{json.dumps(value)}` | {below['description'].replace('|', chr(92) + '|')} |"


def values_file() -> str:
    """values.yaml as it is, with the schema's words as comments: the same words once only."""
    return "\n".join(_commented(VALUES.read_text().splitlines())) + "\n"


def _commented(lines: list[str]) -> Iterator[str]:
    yield from OPENING
    path: list[Mapping[str, Any]] = [json.loads((CHART / "values.schema.json").read_text())]
    said = set()
    for line in lines:
        if not line or line.startswith("#") or line.lstrip().startswith("# "):
            continue
        if key := _KEY.match(line):
            depth = len(key[1]) // 2
            # Below what has no properties (resources, labels) nothing is described.
            of = path[depth].get("properties", {}) if depth < len(path) else {}
            path[depth + 1 :] = [of[key[2]]] if key[2] in of else []
            if key[2] in of:
                words = of[key[2]]["description"]
                yield from [""] * (depth == 0)
                yield from [] if words in said else textwrap.wrap(words, _WIDTH, **_indented(key[1]))
                said.add(words)
        yield line


def _indented(space: str) -> dict[str, Any]:
    prefix = f"{space}# "
    return {"initial_indent": prefix, "subsequent_indent": prefix, "break_on_hyphens": False}


if __name__ == "__main__":
    for name, text in pages().items():
        (pathlib.Path(sys.argv[1]) / name).write_text(text)
    VALUES.write_text(values_file())
