"""The watcher when the way to the API server is bad, when kinds come and go, and when objects are hostile.

Each ends with FACT equal to a fresh list of the real API server.
"""

import asyncio
import copy
import os
import pathlib
import random
import string
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ebbgate_bus.contracts import codec, facts, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_lab import apiclient, apiserver, processes

from . import proxy
from .conftest import Watcher, events, until_logged
from .crowd import Crowd, facts_of, fresh
from .test_watcher_kubernetes import Objects, fact

STORIES = sorted((pathlib.Path(__file__).parents[1] / "stories").glob("*.yaml"))
SOAK = os.environ.get("EBBGATE_EXAMPLES") == "soak"
STEPS = 2_000 if SOAK else 300
CUT_S = 60.0 if SOAK else 14.0
pytestmark = pytest.mark.timeout(600 if SOAK else 120)


async def until_equal(watcher: Watcher, api: apiserver.ApiServer) -> dict[str, Stored]:
    return await watcher.until(lambda stored: facts_of(stored) == fresh(api))


def of_stories() -> list[dict[str, Any]]:
    """All manifests of the stories, several versions of many; NodeNetworks are in no Kubernetes."""
    steps = [step for path in STORIES for step in yaml.safe_load(path.read_text())["steps"]]
    found = [each for step in steps for each in step.get("apply", ())]
    return [each for each in found if each["kind"] not in ("NodeNetwork", "List")]


async def test_the_stories_objects_in_any_order_are_what_a_fresh_list_says(
    watcher: Watcher, api: apiserver.ApiServer
) -> None:
    seed = random.randrange(10**6)
    choice, manifests = random.Random(seed), of_stories()
    there: dict[str, dict[str, Any]] = {}

    def step() -> None:
        if there and choice.random() < 0.4:
            api.delete(there.pop(choice.choice(sorted(there))))
            return
        manifest = copy.deepcopy(choice.choice(manifests))
        try:
            api.apply(manifest)
        except apiclient.Refused as error:
            # Some of the stories' policies are no good, which the API says in two ways.
            if error.status not in (400, 422) and "failed to create typed patch object" not in str(error):
                raise
        else:
            if manifest["metadata"]["name"] not in ("default", "kube-system"):
                there[apiserver.location(manifest)] = manifest

    watcher.process.start()
    await watcher.until_synced()
    for _ in range(3):
        for _ in range(STEPS // 3):
            await asyncio.to_thread(step)
        assert await until_equal(watcher, api), f"seed {seed}"
    for manifest in there.values():
        await asyncio.to_thread(api.delete, manifest)
    await until_equal(watcher, api)


async def test_watches_closed_in_the_middle_of_a_line_lose_nothing(
    watcher: Watcher, api: apiserver.ApiServer, tmp_path: pathlib.Path
) -> None:
    crowd = Crowd(api, 11)
    await asyncio.to_thread(crowd.create, 400)
    async with proxy.before(api, proxy.Habits(cut_after=60_000), seed=5) as between:
        process = through(watcher, api, between, tmp_path)
        process.start()
        for _ in range(4):
            await asyncio.to_thread(crowd.stir, 500, 200)
        while between.cuts < 10:
            await asyncio.to_thread(crowd.stir, 500, 50)
        between.habits.cut_after = 0
        await until_equal(watcher, api)
        await until_logged(process, "watcher.ready")
    await asyncio.to_thread(crowd.clear)


async def test_a_slow_server_is_waited_for(
    watcher: Watcher, api: apiserver.ApiServer, tmp_path: pathlib.Path
) -> None:
    crowd = Crowd(api, 12)
    await asyncio.to_thread(crowd.create, 200)
    async with proxy.before(api, proxy.Habits(piece=4096, pause_s=0.02), seed=6) as between:
        process = through(watcher, api, between, tmp_path)
        process.start()
        await asyncio.to_thread(crowd.stir, 300, 100)
        await until_equal(watcher, api)
        assert not events(process, "source.broken")
    await asyncio.to_thread(crowd.clear)


def through(
    watcher: Watcher, api: apiserver.ApiServer, between: proxy.Proxy, folder: pathlib.Path
) -> processes.Process:
    config = proxy.kubeconfig(api, between, folder)
    return watcher.another("through", "--source", "kubernetes", "--kubeconfig", config, "--lease", "")


@pytest.fixture
def crd(api: apiserver.ApiServer) -> Iterator[dict[str, Any]]:
    """The CRD of deploy/, to be changed or removed; afterwards it is as it was."""
    (manifest,) = [each for each in yaml.safe_load_all(apiserver.CRD.read_text()) if each]
    yield copy.deepcopy(manifest)
    api.apply_crd()


@pytest.fixture
def objects(api: apiserver.ApiServer, request: pytest.FixtureRequest) -> Iterator[Objects]:
    objects = Objects(api, f"f{abs(hash(request.node.name)) % 10**8}")
    yield objects
    objects.clean()


async def test_a_crd_that_is_deleted_takes_its_policies_along_and_may_come_back(
    watcher: Watcher, api: apiserver.ApiServer, crd: dict[str, Any]
) -> None:
    objects = Objects(api, "crd")
    policy, node = objects.make(objects.policy()), objects.make(objects.node())
    watcher.process.start()
    await watcher.until_synced()
    api.delete(crd)
    await watcher.until_gone(fact(policy))
    await watcher.until(lambda stored: b'"missing":true' in stored[subjects.synced("policy")].payload)
    api.apply_crd()
    again = objects.make(objects.policy("again"))
    stored = await watcher.until_present(fact(again), fact(node))
    assert b"missing" not in stored[subjects.synced("policy")].payload
    await until_equal(watcher, api)
    objects.remove(again)
    objects.remove(node)


async def test_fields_of_a_later_version_of_the_crd_are_passed_on(
    watcher: Watcher, api: apiserver.ApiServer, crd: dict[str, Any], objects: Objects
) -> None:
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["tariff"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    api.apply(crd)
    watcher.process.start()
    await watcher.until_synced()
    policy = objects.policy()
    policy["spec"]["tariff"] = {"night": [1, {"deep": None}], "day": "ü"}

    async def stored_spec() -> dict[str, Any]:
        objects.make(policy)
        stored = await watcher.until_present(fact(policy))
        made = codec.decode(fact(policy), stored[fact(policy)].payload)
        assert isinstance(made, facts.Policy)
        return dict(yaml.safe_load(bytes(made.spec)))

    async with asyncio.timeout(20):
        while "tariff" not in await stored_spec():  # a changed CRD is in force a moment later
            policy["metadata"]["annotations"] = {"try": str(random.random())}
    assert (await stored_spec())["tariff"]["day"] == "ü"
    deep: dict[str, Any] = {}
    for _ in range(900):
        deep = {"more": deep}
    bottomless = objects.policy("bottomless")
    bottomless["spec"]["tariff"] = deep
    objects.make(bottomless)
    (line,) = await watcher.until_logged("object.refused")
    assert (line["name"], "deeper" in str(line["reason"])) == (bottomless["metadata"]["name"], True)
    objects.remove(bottomless)
    await until_equal(watcher, api)


async def test_hostile_objects_are_facts_or_named_and_leave_the_others_alone(
    watcher: Watcher, api: apiserver.ApiServer, objects: Objects
) -> None:
    every = string.ascii_letters + string.digits
    labels = {f"{c.lower()}.example/a-_.{c}": f"{c}-_.{c}" for c in every} | {"empty": "", "long": "x" * 63}
    pod, nodes = objects.pod(), []
    pod["metadata"] |= {"labels": labels, "annotations": {"huge": "é" * 120_000}}
    pod["status"]["podIPs"] = None
    for number, address in enumerate(("not an address", "::ffff:1.2.3.4", "fe80::1%eth0", "1.2.3.4/8", "ü")):
        node = objects.node(f"odd-{number}")
        node["status"]["addresses"] = [
            {"type": kind, "address": address} for kind in ("InternalIP", "ExternalIP", "Hostname", "")
        ]
        nodes.append(node)
    dotted = objects.node("dots.in.its.name")
    plain = objects.pod("plain", "10.244.1.11")
    watcher.process.start()
    await watcher.until_synced()
    for each in (pod, *nodes, dotted, plain):
        objects.make(each)
    stored = await until_equal(watcher, api)
    seen = codec.decode(fact(pod), stored[fact(pod)].payload)
    assert isinstance(seen, facts.Pod)
    assert seen.labels == labels
    shortened = {line["subject"]: str(line["reason"]) for line in watcher.events("object.shortened")}
    assert "not an address" in shortened[fact(nodes[0])]
    assert "1.2.3.4/8" in shortened[fact(nodes[3])]
    assert fact(plain) not in shortened


class Cut:
    """A network namespace for the watcher, and a way to the API server that can be cut without a word."""

    HERE, THERE = "10.213.7.1", "10.213.7.2"

    def __init__(self, name: str) -> None:
        self.netns = name

    def make(self) -> None:
        for command in (
            f"ip netns add {self.netns}",
            f"ip link add {self.netns} type veth peer name eth0 netns {self.netns}",
            f"ip addr add {self.HERE}/30 dev {self.netns}",
            f"ip link set {self.netns} up",
            f"ip -n {self.netns} addr add {self.THERE}/30 dev eth0",
            f"ip -n {self.netns} link set eth0 up",
        ):
            done = processes.run("", *command.split())
            assert done.returncode == 0, (command, done.stderr)

    def remove(self) -> None:
        processes.run("", "ip", "netns", "del", self.netns)

    def cut(self, port: int) -> None:
        """From now on packets to and from `port` get lost."""
        rules = (
            f"table inet cut {{ chain i {{ type filter hook input priority 0; tcp sport {port} drop; }}; "
            f"chain o {{ type filter hook output priority 0; tcp dport {port} drop; }}; }}"
        )
        done = processes.run(self.netns, "nft", rules)
        assert done.returncode == 0, done.stderr

    def mend(self) -> None:
        assert processes.run(self.netns, "nft", "delete table inet cut").returncode == 0


@pytest.fixture
def way() -> Iterator[Cut]:
    way = Cut(f"ebw{os.getpid()}")
    try:
        way.make()
        yield way
    finally:
        way.remove()


async def test_a_network_that_was_cut_is_noticed_and_what_happened_meanwhile_is_caught_up_with(
    way: Cut, tmp_path: pathlib.Path
) -> None:
    api = apiserver.ApiServer(tmp_path / "kubernetes", host=way.HERE)
    watcher = Watcher(tmp_path, api, host=way.HERE, netns=way.netns)
    try:
        api.start()
        await watcher.connect()
        crowd = Crowd(api, 13)
        await asyncio.to_thread(crowd.create, 100)
        watcher.process.start()
        await until_equal(watcher, api)
        way.cut(api.port)
        await asyncio.to_thread(crowd.stir, 200, 100)
        await watcher.until_logged("source.broken")
        deadline = asyncio.get_running_loop().time() + max(0.0, CUT_S - 14.0)
        while asyncio.get_running_loop().time() < deadline:
            await asyncio.to_thread(crowd.stir, 200, 20)
        assert facts_of(await watcher.stored()) != fresh(api)
        way.mend()
        await until_equal(watcher, api)
        await watcher.until_logged("source.recovered")
    finally:
        await watcher.close()
        api.stop()
