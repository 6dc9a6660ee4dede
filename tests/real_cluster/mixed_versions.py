"""Two versions of Ebbgate beside each other on a real cluster, as an upgrade has them: an older one, of this
repository's history, is installed by its own chart; then its parts are replaced, some first, and some back
again, while pods visit nginx without pause.

Not among what `make test` runs: `make soak-versions` makes the older one first, and says where it is.
"""

import json
import os
import pathlib
import re
from collections.abc import Iterator

import pytest

from ebbgate_lab import images, older, sample
from ebbgate_lab.cluster import scene as scenes

from . import installation
from .installation import NAMESPACE
from .test_deployment import INSTALL, NODES
from .traffic import Traffic, until

OLDER = pathlib.Path(os.environ.get("EBBGATE_OLDER", "build/older"))
WAIT = ("--wait", "--timeout", "150s")
BOTH = f"several versions are running: {older.VERSION}, {images.VERSION}"
STEPS = [
    ("programmers", images.VERSION, older.VERSION),
    ("programmers back, and services", older.VERSION, images.VERSION),
    ("all", images.VERSION, images.VERSION),
]

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[scenes.Scene]:
    """A cluster with the images of both on its nodes, and nothing else of Ebbgate's."""
    folder = tmp_path_factory.mktemp("mixed")
    archives = [*images.given_or_made(folder), *(OLDER / f"{name}.tar" for name in images.REFERENCES)]
    scene = scenes.Scene(prefix="ebrm-", folder=folder / "lab", images=archives, bare=True)
    try:
        scene.build()
        scene.begin()
        installation.make_volumes(scene, "node3", "first")
        yield scene
    finally:
        scene.down()


@pytest.fixture(scope="module")
def traffic(scene: scenes.Scene) -> Traffic:
    return Traffic(sample.NAME, scene)


def asked(scene: scenes.Scene, *command: str) -> str:
    options = ("-n", NAMESPACE, "exec", "deployment/ebbgate-cli", "--")
    return scene.kubectl.run(*options, "ebbgate", *command).stdout


def status(scene: scenes.Scene) -> str:
    return " ".join(asked(scene, "status").split())


def unreadable(scene: scenes.Scene) -> list[str]:
    """What one of those that run said that another can't read, or may not say."""
    options = ("-n", NAMESPACE, "logs", "--prefix", "--tail=-1", "--all-containers")
    told = scene.kubectl.call(*options, "-l", "app.kubernetes.io/name=ebbgate", "--max-log-requests=30")
    # Without responders is a nats-server that just begins: it is asked again.
    pattern = re.compile(r'\.unreadable"(?!.*no responders)|[Pp]ermissions [Vv]iolation')
    return [line for line in told.splitlines() if pattern.search(line)]


def assert_nobody_is_troubled(scene: scenes.Scene) -> None:
    """All are understood, no kernel lacks anything, and nobody died: a container that did has begun anew."""
    assert unreadable(scene) == []
    nodes = json.loads(asked(scene, "nodes", "-o", "json"))
    assert [node["problems"] for node in nodes] == [[]] * len(scene.cluster.nodes)
    pods = scene.kubectl.get("-n", NAMESPACE, "pods")["items"]
    restarts = {
        f"{pod['metadata']['name']}/{container['name']}": container["restartCount"]
        for pod in pods
        for container in pod["status"]["containerStatuses"]
    }
    assert restarts == dict.fromkeys(restarts, 0)


def test_the_older_one_is_installed_by_its_own_chart(scene: scenes.Scene, traffic: Traffic) -> None:
    chart = str(OLDER / "tree/deploy/helm/ebbgate")
    nodes = NODES.partition(",networkPolicies.egress")[0]
    scene.helm.call("install", NAMESPACE, chart, *INSTALL[2:4], "--create-namespace", *WAIT, "--set", nodes)
    traffic.begin(3)
    traffic.assert_none_lost_or_wrong()
    assert f"Ebbgate {older.VERSION} works" in status(scene)
    assert_nobody_is_troubled(scene)


@pytest.mark.parametrize(("programmer", "services"), [step[1:] for step in STEPS], ids=[s[0] for s in STEPS])
def test_some_are_of_the_other_version(
    scene: scenes.Scene, traffic: Traffic, programmer: str, services: str
) -> None:
    """Nothing is lost or wrong, changes are obeyed, and it is said who is there."""
    tags = f"image.tag={services},programmer.image.tag={programmer},programmer.maxUnavailable=1"
    scene.helm.call("upgrade", *INSTALL[:4], "--reset-then-reuse-values", *WAIT, "--set", f"{tags},{NODES}")
    step = STEPS.index(next(each for each in STEPS if each[1:] == (programmer, services)))
    traffic.follow_a_change(f"192.0.2.{32 * step}/27")
    traffic.until_more()
    traffic.assert_none_lost_or_wrong()
    wanted = BOTH if programmer != services else f"Ebbgate {images.VERSION} works"
    until(lambda: wanted in status(scene), lambda: f"{wanted}: {status(scene)}")
    assert_nobody_is_troubled(scene)


def test_all_goes_back_to_the_older_one(scene: scenes.Scene, traffic: Traffic) -> None:
    """Its chart, too."""
    scene.helm.call("rollback", NAMESPACE, "1", "--namespace", NAMESPACE, *WAIT)
    traffic.follow_a_change("192.0.2.128/27")
    traffic.until_more()
    traffic.assert_none_lost_or_wrong()
    wanted = f"Ebbgate {older.VERSION} works"
    until(lambda: wanted in status(scene), lambda: f"{wanted}: {status(scene)}")
    assert_nobody_is_troubled(scene)
