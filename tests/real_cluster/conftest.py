"""One real cluster with Ebbgate on it for all tests here; each test has pods and a policy of its own."""

import pathlib
from collections.abc import AsyncIterator, Iterator

import pytest

from ebbgate_lab import namespaces
from ebbgate_lab.cluster import scene as scenes

from .visitors import Visitors

PREFIX = "ebr-"


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[scenes.Scene]:
    """The cluster, nginx outside, and all of Ebbgate; the pods of the first scenario are Ready."""
    scene = scenes.Scene(prefix=PREFIX, folder=tmp_path_factory.mktemp("cluster") / "lab")
    try:
        scene.build()
        scene.install()
        yield scene
    finally:
        scene.down()


@pytest.fixture
async def visitors(scene: scenes.Scene, request: pytest.FixtureRequest) -> AsyncIterator[Visitors]:
    """Pods that visit nginx, under a policy of the test's own."""
    name = (
        pathlib.Path(str(request.node.name)).name.removeprefix("test_").split("[")[0].replace("_", "-")[:40]
    )
    with namespaces.entered(scene.netns("control")):
        bus, watching = await scene.observe()
        visitors = Visitors(name.strip("-"), scene, watching)
        try:
            yield visitors
        finally:
            visitors.remove()
            watching.stop()
            await bus.close()
