"""The lab, with names of its own, so that a demo that was kept isn't disturbed."""

import pathlib
from collections.abc import Iterator

import pytest

from ebbgate_lab import lab

PREFIX = "ebl-"


@pytest.fixture
def scene(tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> Iterator[lab.Lab]:
    """The world before Ebbgate: namespaces and nginx. A test may ask for a secured bus."""
    secured = request.node.get_closest_marker("secured") is not None
    scene = lab.Lab(prefix=PREFIX, folder=tmp_path / "lab", secured=secured)
    try:
        scene.build()
        yield scene
    finally:
        scene.down()
