"""Each command of README and docs that asks the bus or a node, typed as it stands there, in a lab with what
the pages speak of: a policy that works, one whose gateway lacks the interface, one without a gateway, and
pods that send all the time.
"""

import pathlib
import shutil
import threading

import pytest
import yaml

from ebbgate_lab import lab, namespaces, processes, sample, sources, webserver
from tests.docs import pages, register, shell

ELSEWHERE = "203.0.113.1"
WORDS = {
    "NAMESPACE/NAME": "default/mediabot",
    "NAMESPACE/POD": "default/mediabot",
    "[POLICY|POD]": sample.NAME,
    "[NAME]": sample.NAME,
    "POLICY": sample.NAME,
    "NAME": "wrong-card",
    "POD": "default/mediabot",
    "DESTINATION": ELSEWHERE,
    "NODE": "node1",
    "DIR": "manifests",
    "FILE…": "stories/seed-egress-sample.yaml",
}


def policy(name: str, spec: dict[str, object]) -> sources.Manifest:
    """As old as the hills, so that it wins."""
    return sample.policy(spec) | {"metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"}}


def chooses(pods: str) -> list[dict[str, object]]:
    return [{"podSelector": {"matchLabels": {"class": pods}}}]


NODE2 = sample.spec()["egressGateway"]["nodeSelector"]
WRONG_CARD = {
    "selectors": chooses("xwing"),
    "destinationCIDRs": ["10.168.60.0/24"],
    "egressGateway": {"nodeSelector": NODE2, "interface": "eth1"},
}
OLD = {
    "selectors": chooses("mediabot"),
    "destinationCIDRs": ["203.0.113.0/24"],
    "egressGateway": {"nodeSelector": {"matchLabels": {"egress": "yes"}}},
}
SECOND = {
    "selectors": [{"podSelector": {}}],
    "destinationCIDRs": ["0.0.0.0/0", "10.168.60.0/24"],
    "egressGateway": {"nodeSelector": NODE2, "interface": "eth0"},
}


def write_files(folder: pathlib.Path) -> None:
    """Those that the pages name."""
    stories = folder / "stories"
    stories.mkdir()
    for name in ("seed-egress-sample", "own-exclusions"):
        shutil.copy(pages.ROOT / f"tests/stories/{name}.yaml", stories)
    (story,) = yaml.safe_load_all((stories / "seed-egress-sample.yaml").read_text())
    (folder / "manifests").mkdir()
    objects = [each for step in story["steps"][:2] for each in step["apply"]]
    (folder / "manifests" / "all.yaml").write_text(yaml.safe_dump_all(objects))
    second = sample.policy(SECOND) | {"metadata": {"name": "second"}}
    (folder / "second.yaml").write_text(yaml.safe_dump(second))
    excluding = sample.policy(sample.spec(excludedCIDRs=["20.0.0.0/8"]))
    (folder / "policy.yaml").write_text(yaml.safe_dump(excluding))


async def furnish(scene: lab.Lab) -> None:
    """All policies are in force as far as they can be, and then mediabot is another pod than before. One
    after the other, so that each has a trace of its own.
    """
    with namespaces.entered(scene.netns("control")):
        scene.install()
        bus, watching = await scene.observe()
        await watching.until(lambda seen: seen.obeyed(*scene.nodes), what="the first revision on all nodes")
        policies = (policy("wrong-card", WRONG_CARD), policy("old", OLD), sample.policy(sample.spec()))
        for each in policies:
            name, generation = each["metadata"]["name"], scene.source.apply(each)
            await watching.until(
                lambda seen, name=name, generation=generation: (
                    sample.programmed(seen.verdict(name), generation) and seen.obeyed(*scene.nodes)
                ),
                what=f"{name} programmed",
            )
        pod = sources.manifests("pods.yaml")[1]
        scene.source.apply(pod | {"metadata": pod["metadata"] | {"uid": "another"}})
        await watching.until(lambda seen: seen.obeyed(*scene.nodes), what="the pod's rows on its node")
        watching.stop()
        await bus.close()


def sending(scene: lab.Lab, pod: str, destination: str) -> processes.Process:
    script = f"while :; do curl -s -m 0.3 -o /dev/null http://{destination}/; sleep 0.1; done"
    log = scene.folder / f"{pod}-{destination}.log"
    return processes.Process(f"{pod} to {destination}", ["sh", "-c", script], log=log, netns=scene.netns(pod))


@pytest.mark.timeout(180)
async def test_what_is_to_be_typed_says_what_it_should(scene: lab.Lab, tmp_path: pathlib.Path) -> None:
    await furnish(scene)
    folder = tmp_path / "person"
    folder.mkdir()
    write_files(folder)
    senders = [
        sending(scene, "mediabot", webserver.ADDRESS),
        sending(scene, "mediabot", ELSEWHERE),
        sending(scene, "xwing", webserver.ADDRESS),
    ]
    for each in senders:
        each.start()
    try:
        person = shell.Shell(
            register.ASKED | register.HEARD,
            folder,
            environment={"EBBGATE_NATS_URL": scene.url},
            netns=scene.netns("control"),
            words=WORDS,
        )
        person.type_all(register.ASKED)
        type_while_things_change(person, scene)
        environment = {"EBBGATE_NODE": "node2", "EBBGATE_PIN_PATH": str(scene.pin_path("node2"))}
        environment["EBBGATE_BPF_OBJECT"] = str(lab.BPF_OBJECT)
        on_node = shell.Shell(
            register.ON_NODES, tmp_path, environment=environment, netns=scene.netns("node2")
        )
        on_node.type("ebbgate-programmer doctor")
        scene.processes["programmer-node2"].stop()
        on_node.type("ebbgate-programmer clean")
        assert "ebbgate" not in scene.topology.run("node2", "nft", "list", "tables")
    finally:
        for each in senders:
            each.kill()


def type_while_things_change(typist: shell.Shell, scene: lab.Lab) -> None:
    """The policy `old` has one destination, and then another."""
    enough = threading.Event()

    def change() -> None:
        number = 0
        while not enough.wait(0.3):
            number += 1
            cidrs = ["203.0.113.0/24", f"198.51.100.{number % 250}/32"]
            scene.source.apply(policy("old", OLD | {"destinationCIDRs": cidrs}))

    changing = threading.Thread(target=change)
    changing.start()
    try:
        typist.type_all(register.HEARD)
    finally:
        enough.set()
        changing.join()
