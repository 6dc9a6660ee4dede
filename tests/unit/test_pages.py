"""The pages that are made of what programs and the chart say are what they say now."""

import pathlib

import pytest

from ebbgate_lab import pages

DOCS = pathlib.Path(__file__).parents[2] / "docs"
MADE = pages.pages()


@pytest.mark.parametrize("name", MADE)
def test_the_page_is_what_is_said_now(name: str) -> None:
    assert (DOCS / name).read_text() == MADE[name], "make reference"


def test_comments_of_the_values_are_the_schema_s_words() -> None:
    assert pages.VALUES.read_text() == pages.values_file(), "make reference"
