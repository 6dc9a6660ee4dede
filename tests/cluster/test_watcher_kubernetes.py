"""The watcher against a real kube-apiserver: lists, watches, restarts, 410, absence, rights."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from ebbgate_bus.contracts import codec, envelope, facts, subjects
from ebbgate_lab import apiserver
from ebbgate_watcher.core.course import PAGE_SIZE

from .conftest import Watcher


class Objects:
    """Makes objects whose names no other test has, and takes them away at the end."""

    def __init__(self, api: apiserver.ApiServer, prefix: str) -> None:
        self._api = api
        self._prefix = prefix
        self._made: list[dict[str, Any]] = []

    def make(self, manifest: dict[str, Any]) -> dict[str, Any]:
        self._api.apply(manifest)
        if manifest not in self._made:
            self._made.append(manifest)
        return manifest

    def remove(self, manifest: dict[str, Any]) -> None:
        self._api.delete(manifest)
        self._made.remove(manifest)

    def clean(self) -> None:
        for manifest in list(self._made):
            self.remove(manifest)

    def node(self, name: str = "node") -> dict[str, Any]:
        metadata = {"name": f"{self._prefix}-{name}"}
        addresses = [{"type": "InternalIP", "address": "10.168.60.11"}]
        return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": {"addresses": addresses}}

    def pod(self, name: str = "pod", ip: str = "10.244.1.10") -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{self._prefix}-{name}",
                "namespace": "default",
                "labels": {"org": "empire"},
            },
            "spec": {"nodeName": f"{self._prefix}-node", "containers": [{"name": "c", "image": "x"}]},
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
        }

    def policy(self, name: str = "policy") -> dict[str, Any]:
        gateway = {"nodeSelector": {"matchLabels": {"gateway": "yes"}}, "egressIP": "10.168.60.100"}
        return {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumEgressGatewayPolicy",
            "metadata": {"name": f"{self._prefix}-{name}"},
            "spec": {
                "selectors": [{"podSelector": {"matchLabels": {"org": "empire"}}}],
                "destinationCIDRs": ["0.0.0.0/0"],
                "egressGateway": gateway,
            },
        }


def fact(manifest: dict[str, Any]) -> str:
    metadata = manifest["metadata"]
    kinds = {"Node": "node", "Pod": "pod", "CiliumEgressGatewayPolicy": "policy", "Namespace": "namespace"}
    ids = [metadata["namespace"]] if "namespace" in metadata else []
    return subjects.fact(kinds[manifest["kind"]], *ids, metadata["name"])


@pytest.fixture
def objects(api: apiserver.ApiServer, request: pytest.FixtureRequest) -> Iterator[Objects]:
    objects = Objects(api, f"t{abs(hash(request.node.name)) % 10**8}")
    yield objects
    objects.clean()


async def test_what_exists_is_listed_and_what_changes_is_watched(watcher: Watcher, objects: Objects) -> None:
    node, pod = objects.make(objects.node()), objects.make(objects.pod())
    watcher.process.start()
    stored = await watcher.until_synced()
    seen = codec.decode(fact(pod), stored[fact(pod)].payload)
    assert isinstance(seen, facts.Pod)
    assert (seen.ips, seen.node, seen.phase) == (("10.244.1.10",), node["metadata"]["name"], "Running")
    assert len(seen.uid) == 36
    assert stored[fact(pod)].sequence < stored[subjects.synced("pod")].sequence
    services = [subject for subject in stored if subject.startswith(f"{subjects.ROOT}.fact.servicecidr.")]
    assert b"10.96.0.0/16" in stored[services[0]].payload

    policy = objects.make(objects.policy())
    stored = await watcher.until_present(fact(policy))
    assert int(stored[fact(policy)].headers[envelope.SEEN])
    assert stored[fact(policy)].headers[envelope.RESOURCE_VERSION]
    made = codec.decode(fact(policy), stored[fact(policy)].payload)
    assert isinstance(made, facts.Policy)
    assert made.generation == 1
    assert made.created.endswith("Z")
    policy["spec"]["destinationCIDRs"] = ["192.0.2.0/24"]
    objects.make(policy)
    await watcher.until(lambda stored: b"192.0.2.0/24" in stored[fact(policy)].payload)
    objects.remove(policy)
    await watcher.until_gone(fact(policy))


async def test_a_list_of_several_pages_is_complete(watcher: Watcher, objects: Objects) -> None:
    policies = [objects.make(objects.policy(f"p{number}")) for number in range(PAGE_SIZE + 10)]
    watcher.process.start()
    stored = await watcher.until_synced()
    assert all(stored[fact(policy)].payload for policy in policies)


async def test_a_restart_in_an_unchanged_world_publishes_nothing(watcher: Watcher, objects: Objects) -> None:
    objects.make(objects.pod())
    watcher.process.start()
    before = await watcher.until_synced()
    watcher.process.kill()
    watcher.process.start()
    marker = objects.make(objects.node("marker"))
    after = await watcher.until_present(fact(marker))
    assert {subject for subject in after if after[subject] != before.get(subject)} == {fact(marker)}


async def test_what_vanished_while_the_watcher_was_down_is_gone(watcher: Watcher, objects: Objects) -> None:
    pod, policy, stays = (objects.make(each) for each in (objects.pod(), objects.policy(), objects.node()))
    watcher.process.start()
    await watcher.until_present(fact(pod), fact(policy), fact(stays))
    watcher.process.kill()
    objects.remove(pod)
    objects.remove(policy)
    watcher.process.start()
    stored = await watcher.until_gone(fact(pod), fact(policy))
    assert stored[fact(stays)].payload


async def test_a_restarted_api_server_is_followed_again(
    watcher: Watcher, objects: Objects, api: apiserver.ApiServer
) -> None:
    pod = objects.make(objects.pod())
    watcher.process.start()
    await watcher.until_synced()
    api.api.kill()
    (line,) = await watcher.until_logged("source.broken")
    assert line["origin"] == "API server"
    api.start_api()
    policy = objects.make(objects.policy())
    objects.remove(pod)
    await watcher.until_present(fact(policy))
    await watcher.until_gone(fact(pod))
    await watcher.until_logged("source.recovered")


async def test_an_expired_watch_lists_again_and_notices_what_is_gone(
    watcher: Watcher, objects: Objects, api: apiserver.ApiServer
) -> None:
    pod, stays = objects.make(objects.pod()), objects.make(objects.node())
    watcher.process.start()
    stored = await watcher.until_synced()
    known = stored[fact(pod)].headers[envelope.RESOURCE_VERSION]
    api.api.kill()
    await watcher.until_logged("source.broken")
    # A stopped watcher doesn't see the API come back, and misses what happens before the versions it knows
    # are compacted away.
    watcher.pause()
    api.start_api()
    objects.remove(pod)
    late = objects.make(objects.policy())
    api.compact()
    api.api.kill()
    api.start_api()
    path = f"{apiserver.collection('v1', 'Pod')}?watch=1&timeoutSeconds=1&resourceVersion={known}"
    status, answer = api.client.request("GET", path)
    assert 410 in (status, answer.get("object", {}).get("code")), (status, answer)
    watcher.resume()
    await watcher.until_gone(fact(pod))
    stored = await watcher.until_present(fact(late))
    assert stored[fact(stays)].payload


async def test_a_kind_that_is_missing_at_start_is_found_when_it_is_there(
    watcher: Watcher, objects: Objects, api: apiserver.ApiServer
) -> None:
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "ciliumegressgatewaypolicies.cilium.io"},
    }
    api.delete(crd)
    try:
        watcher.process.start()
        stored = await watcher.until_synced()
        synced = codec.decode(subjects.synced("policy"), stored[subjects.synced("policy")].payload)
        assert synced == facts.Synced(kind="policy", missing=True)
        (line,) = await watcher.until_logged("source.broken")
        assert line["origin"] == "policy"
    finally:
        api.apply_crd()
    policy = objects.make(objects.policy())
    stored = await watcher.until_present(fact(policy))
    synced = codec.decode(subjects.synced("policy"), stored[subjects.synced("policy")].payload)
    assert isinstance(synced, facts.Synced)
    assert not synced.missing


async def test_the_watcher_waits_for_an_api_server_that_is_down(
    watcher: Watcher, objects: Objects, api: apiserver.ApiServer
) -> None:
    pod = objects.make(objects.pod())
    api.api.kill()
    try:
        watcher.process.start()
        await watcher.until_logged("source.broken")
        assert not await watcher.stored()
    finally:
        api.start_api()
    await watcher.until_present(fact(pod))
    await watcher.until_synced()
    assert [line["origin"] for line in watcher.events("source.broken")].count("API server") == 1


async def test_the_watcher_has_no_right_that_it_does_not_need(api: apiserver.ApiServer) -> None:
    client = api.client_of("watcher")
    forbidden = (
        ("GET", apiserver.collection("v1", "Secret")),
        ("GET", apiserver.collection("v1", "ConfigMap")),
        ("GET", f"{apiserver.collection('v1', 'Pod', 'default')}/any"),
        ("DELETE", f"{apiserver.collection('v1', 'Pod', 'default')}/any"),
        ("POST", apiserver.collection("cilium.io/v2", "CiliumEgressGatewayPolicy")),
    )
    with contextlib.closing(client):
        assert client.request("GET", apiserver.collection("v1", "Pod"))[0] == 200
        for method, path in forbidden:
            assert client.request(method, path, {} if method == "POST" else None)[0] == 403


def test_the_version_of_the_binaries_is_that_of_the_modules() -> None:
    components = pathlib.Path(apiserver.__file__).parents[1] / "components"
    assert f"\tk8s.io/kubernetes v{apiserver.VERSION} " in (components / "go.mod").read_text()
    assert f"\nkube={apiserver.VERSION} " in (components / "build").read_text()
