"""Ebbgate as a user installs it: its images, its chart, the real Helm and kubectl, on a cluster of its own;
and all that is done to an installation, while pods visit nginx without pause.

One story, told by the tests in their order: installed, restarted, drained, upgraded, uninstalled.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from ebbgate_lab import images
from ebbgate_lab.cluster import helm
from ebbgate_lab.cluster import scene as scenes

from .traffic import Traffic

PREFIX = "ebrd-"
NAMESPACE = "ebbgate"
INSTALL = (NAMESPACE, str(helm.CHART), "--namespace", NAMESPACE, "--wait", "--timeout", "120s")
WORKLOADS = ("deployment/ebbgate-watcher", "deployment/ebbgate-resolver", "statefulset/ebbgate-nats")
PROGRAMMER = "daemonset/ebbgate-programmer"
NEVER = {"pullPolicy": "Never"}
VALUES: dict[str, Any] = {
    "image": NEVER,
    "programmer": {"image": NEVER},
    "nats": {"image": NEVER, "storage": {"kind": "emptyDir"}},
}

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[scenes.Scene]:
    """A cluster with Ebbgate's images on its nodes, and nothing else of it."""
    folder = tmp_path_factory.mktemp("deployed")
    archives = [images.make(name, folder) for name in images.REFERENCES]
    scene = scenes.Scene(prefix=PREFIX, folder=folder / "lab", images=archives, bare=True)
    try:
        scene.build()
        scene.begin()
        yield scene
    finally:
        scene.down()


@pytest.fixture(scope="module")
def traffic(scene: scenes.Scene) -> Traffic:
    return Traffic("deployed", scene)


def test_it_is_installed_and_a_pod_leaves_with_the_egress_ip(scene: scenes.Scene, traffic: Traffic) -> None:
    scene.helm.call("install", *INSTALL, "--create-namespace", values=VALUES)
    traffic.begin(3)
    told = scene.kubectl.call("describe", "cegp", traffic.name)
    assert "Normal  Programmed" in told[told.index("Events:") :], told
    traffic.assert_none_lost_or_wrong()
