"""The first scenario with real pods and kubectl: the demo's own story, whose checks are the assertions."""

import io

import pytest
from rich.console import Console

from ebbgate_lab import demo, namespaces
from ebbgate_lab.cluster import scene as scenes


@pytest.mark.timeout(180)
async def test_the_whole_scenario_with_kills(scene: scenes.Scene) -> None:
    story = io.StringIO()
    with namespaces.entered(scene.netns("control")):
        bus, watching = await scene.observe()
        try:
            await demo.Demo(scene, watching, Console(file=story, width=200)).tell()
        except (demo.WentWrong, TimeoutError) as error:
            pytest.fail(f"{error}\n{story.getvalue()}\n{scene.log_tail()}")
        finally:
            watching.stop()
            await bus.close()
    assert story.getvalue().count("✓") >= 25
