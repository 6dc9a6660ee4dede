"""Verdicts on the bus → statuses and Events in the real API: what kubectl shows, and who may write it."""

import asyncio
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from ebbgate_lab import apiserver
from ebbgate_lab.cluster.kubectl import Kubectl

from .conftest import Watcher
from .judge import ACCEPTED, GOOD, NO_CONFLICT, NOT_FOUND, WAITING, Judge, Object, said, until
from .test_watcher_kubernetes import Objects


@pytest.fixture
def objects(api: apiserver.ApiServer, request: pytest.FixtureRequest) -> Iterator[Objects]:
    objects = Objects(api, f"s{abs(hash(request.node.name)) % 10**8}")
    yield objects
    objects.clean()


@pytest.fixture
def judge(watcher: Watcher, api: apiserver.ApiServer) -> Judge:
    return Judge(watcher, api)


@pytest.fixture(scope="module")
def kubectl(api: apiserver.ApiServer) -> Kubectl:
    return Kubectl(api.kubeconfig("admin"), "")


async def start(watcher: Watcher) -> None:
    watcher.process.start()
    await watcher.until_synced()


async def until_held(judge: Judge, policy: Object, type_: str, status: str, generation: int = 1) -> None:
    """Until the API says so of the condition."""

    def holds() -> bool:
        found = judge.condition(policy, type_)
        return (found.get("status"), found.get("observedGeneration")) == (status, generation)

    await until(holds, lambda: judge.get(policy))


async def until_said(judge: Judge, policy: Object, *reasons: str) -> None:
    await until(lambda: set(reasons) <= set(judge.reasons(policy)), lambda: judge.reasons(policy))


async def test_kubectl_shows_what_became_of_a_policy(
    watcher: Watcher, objects: Objects, judge: Judge, kubectl: Kubectl
) -> None:
    policy = objects.make(objects.policy())
    name = policy["metadata"]["name"]
    await start(watcher)
    waiting = asyncio.create_task(
        asyncio.to_thread(kubectl.call, "wait", f"cegp/{name}", "--for=condition=Programmed", "--timeout=20s")
    )
    await judge.say(policy, (*GOOD[:3], WAITING, NO_CONFLICT))
    await until_held(judge, policy, "Programmed", "False")
    assert not waiting.done()
    since = judge.condition(policy, "Accepted")["lastTransitionTime"]
    await judge.say(policy)
    assert "condition met" in await waiting
    assert judge.condition(policy, "Accepted")["lastTransitionTime"] == since
    header, line = kubectl.call("get", "cegp", name).splitlines()
    assert header.split() == ["NAME", "GATEWAYS", "EGRESS", "IPS", "PODS", "PROGRAMMED", "READY", "AGE"]
    assert line.split()[:6] == [name, "node2", "192.0.2.1", "3", "2/2", "True"]

    await judge.say(policy, (ACCEPTED, NOT_FOUND, *GOOD[2:]))
    await until_said(judge, policy, "GatewayFound", "Programmed", "GatewayLost")
    told = kubectl.call("describe", "cegp", name)
    table = told[told.index("Events:") :]
    assert "Warning  GatewayLost" in table
    assert "node2: no node matches; traffic is dropped" in table
    assert "ebbgate-watcher" in table
    assert judge.condition(policy, "Ready")["reason"] == "NoMatchingNode"


async def test_the_status_has_one_owner_and_others_keep_theirs(
    watcher: Watcher, objects: Objects, judge: Judge, api: apiserver.ApiServer
) -> None:
    policy = objects.make(objects.policy())
    await start(watcher)
    await judge.say(policy)
    await until_held(judge, policy, "Ready", "True")
    path = f"{apiserver.location(policy)}/status?fieldManager=somebody&force=true"
    others = judge.condition(policy, "Ready") | {"type": "Audited"}
    theirs = {key: policy[key] for key in ("apiVersion", "kind", "metadata")}
    theirs["status"] = {"generationInForce": 99, "conditions": [others]}
    api.client.call("PATCH", path, theirs)
    await until(lambda: judge.status(policy)["generationInForce"] == 1, lambda: judge.get(policy))
    await judge.say(policy, (said("Accepted", False, "Rejected", "spec: bad; nothing is in force"),))
    await until_held(judge, policy, "Accepted", "False")
    types = {each["type"] for each in judge.status(policy)["conditions"]}
    assert types == {"Accepted", "Ready", "Audited"}
    managed = judge.get(policy)["metadata"]["managedFields"]
    (entry,) = [each for each in managed if each["manager"] == "ebbgate"]
    assert (entry["operation"], entry["subresource"]) == ("Apply", "status")


async def test_a_restart_in_an_unchanged_world_writes_nothing_and_says_nothing(
    watcher: Watcher, objects: Objects, judge: Judge
) -> None:
    policy, marker = objects.make(objects.policy()), objects.make(objects.policy("marker"))
    await start(watcher)
    await judge.say(policy, (ACCEPTED, NOT_FOUND, *GOOD[2:]))
    await until_held(judge, policy, "GatewayFound", "False")
    # Events follow the status, one by one: a kill among them leaves the rest to be said.
    reasons = {"NoGateway", "Programmed"}
    await until(
        lambda: {each["reason"] for each in judge.events(policy)} == reasons, lambda: judge.events(policy)
    )
    before, events = judge.get(policy), judge.events(policy)
    watcher.process.kill()
    watcher.process.start()
    await judge.say(marker)
    await until_held(judge, marker, "Ready", "True")
    assert judge.get(policy) == before
    assert judge.events(policy) == events


async def test_a_verdict_on_another_version_or_another_policy_is_not_written(
    watcher: Watcher, objects: Objects, judge: Judge
) -> None:
    policy, marker = objects.make(objects.policy()), objects.make(objects.policy("marker"))
    await start(watcher)
    await judge.say(policy)
    await until_held(judge, policy, "Ready", "True")
    policy["spec"]["destinationCIDRs"] = ["192.0.2.0/24"]
    objects.make(policy)
    await judge.say(policy, (ACCEPTED, NOT_FOUND, *GOOD[2:]), generation=1)
    await judge.say(marker)
    await until_held(judge, marker, "Ready", "True")
    await judge.say(policy, (ACCEPTED, NOT_FOUND, *GOOD[2:]), uid="another")
    await judge.say(marker, (ACCEPTED, NOT_FOUND, *GOOD[2:]))
    await until_held(judge, marker, "Ready", "False")
    assert judge.condition(policy, "Ready")["status"] == "True"
    await judge.say(policy)
    await until_held(judge, policy, "Ready", "True", generation=2)
    objects.remove(policy)
    objects.make(policy)
    await judge.say(marker)
    await until_held(judge, marker, "Ready", "True")
    assert not judge.status(policy)
    assert not watcher.events("source.broken")


async def test_a_flapping_gateway_is_counted(watcher: Watcher, objects: Objects, judge: Judge) -> None:
    policy = objects.make(objects.policy())
    await start(watcher)
    for _ in range(2):
        await judge.say(policy)
        await until_held(judge, policy, "GatewayFound", "True")
        await judge.say(policy, (ACCEPTED, NOT_FOUND, *GOOD[2:]))
        await until_held(judge, policy, "GatewayFound", "False")
    assert judge.reasons(policy).count("GatewayLost") == 1
    (lost,) = [event for event in judge.events(policy) if event["reason"] == "GatewayLost"]
    assert lost["series"]["count"] == 2
    assert lost["type"] == "Warning"


KIND = "CiliumEgressGatewayPolicy"
CILIUMS: dict[str, Any] = {
    "type": "object",
    "required": ["metadata"],
    "properties": {
        "metadata": {"type": "object"},
        "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}


def ciliums(*, status: bool) -> Object:
    """A CRD as another has installed it."""
    version = {
        "name": "v2",
        "served": True,
        "storage": True,
        "subresources": {"status": {}} if status else {},
        "schema": {"openAPIV3Schema": CILIUMS},
    }
    names = {
        "kind": KIND,
        "plural": "ciliumegressgatewaypolicies",
        "singular": "ciliumegressgatewaypolicy",
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "ciliumegressgatewaypolicies.cilium.io"},
        "spec": {"group": "cilium.io", "scope": "Cluster", "names": names, "versions": [version]},
    }


@pytest.mark.parametrize("status", [False, True], ids=["no status", "another schema"])
async def test_where_the_crd_is_ciliums_it_is_left_alone_and_events_say_it(
    tmp_path: pathlib.Path, status: bool
) -> None:
    server = apiserver.ApiServer(tmp_path / "ciliums", crd=False)
    server.start()
    watcher = Watcher(tmp_path, server)
    try:
        await watcher.connect()
        crd = ciliums(status=status)
        server.apply(crd)
        path = apiserver.collection("cilium.io/v2", KIND)
        await until(lambda: server.client.request("GET", path)[0] == 200, lambda: "not served")
        judge, objects = Judge(watcher, server), Objects(server, "c")
        policies = [objects.make(objects.policy(f"p{number}")) for number in range(3)]
        await start(watcher)
        for policy in policies:
            await judge.say(policy)
        for policy in policies:
            await until_said(judge, policy, "GatewayFound", "Programmed")
        (line,) = await watcher.until_logged("source.broken")
        assert line["origin"] == "status"
        await judge.say(policies[0], (ACCEPTED, NOT_FOUND, *GOOD[2:]))
        await until_said(judge, policies[0], "GatewayLost")
        before = [judge.reasons(policy) for policy in policies]
        watcher.process.kill()
        watcher.process.start()
        await judge.say(policies[1], (ACCEPTED, NOT_FOUND, *GOOD[2:]))
        await until_said(judge, policies[1], "NoGateway")
        # Whether a gateway was lost or never there isn't known any more; what is said already isn't again.
        assert set(judge.reasons(policies[0])) - {"NoGateway"} == set(before[0])
        assert judge.reasons(policies[2]) == before[2]
        assert not any(event.get("series") for each in policies for event in judge.events(each))
        assert server.client.call("GET", apiserver.location(crd))["metadata"]["generation"] == 1
        assert len(watcher.events("source.broken")) == 2  # once by each process
    finally:
        await watcher.close()
        server.stop()
