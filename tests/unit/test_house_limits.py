"""The house's limits on size: files of at most 400 lines, functions of at most 50, the usual ones far
shorter.
"""

import ast
import math
import pathlib
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = sorted(
    path
    for folder in ("bus", "services", "cli", "deploy", "bench")
    for path in (ROOT / folder).rglob("*.py")
    if "build" not in path.parts
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> Iterator[tuple[str, Function]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, Function):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def length(function: Function) -> int:
    """Lines of the body, its docstring left out: what a function explains doesn't make it long."""
    body = function.body[1:] if ast.get_docstring(function) and len(function.body) > 1 else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_has_at_most_400_lines_and_says_what_it_is(path: pathlib.Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    assert not text.strip() or ast.get_docstring(ast.parse(text)), "no module docstring"


def test_functions_are_short() -> None:
    lengths = {where: length(function) for where, function in functions()}
    assert [where for where, lines in lengths.items() if lines > 50] == []
    ordered = sorted(lengths.values())
    assert ordered[len(ordered) // 2] <= 10
    assert ordered[math.ceil(len(ordered) * 0.9) - 1] <= 25


def test_functions_have_few_parameters() -> None:
    def count(function: Function) -> int:
        names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
        return len([name for name in names if name not in ("self", "cls")])

    assert [where for where, function in functions() if count(function) > 5] == []
