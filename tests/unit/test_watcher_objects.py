"""Kubernetes object → Fact: what is taken, what is left out, and that nothing is judged or fatal."""

import datetime
import json
import pathlib
from typing import Any

import msgspec
import pytest
import yaml

from ebbgate_bus.contracts import codec, facts
from ebbgate_watcher.core import objects

STORIES = sorted((pathlib.Path(__file__).parents[1] / "stories").glob("*.yaml"))


def observe(manifest: object) -> objects.Observed:
    seen = objects.normalise(manifest)
    assert isinstance(seen, objects.Observed), seen
    return seen


def refuse(manifest: object) -> objects.Unusable:
    seen = objects.normalise(manifest)
    assert isinstance(seen, objects.Unusable), seen
    return seen


def pod(**over: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-1", "namespace": "shop", "uid": "u-1", "labels": {"b": "2", "a": "1"}},
        "spec": {"nodeName": "node1", "containers": [{"name": "c", "image": "x"}]},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "podIPs": [{"ip": "10.0.0.1"}, {"ip": "FD00::1"}],
        },
    }
    return whole | over


def policy(spec: object, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumEgressGatewayPolicy",
        "metadata": {"name": "p"} | metadata,
        "spec": spec,
    }


def test_a_pod_keeps_what_later_steps_need_with_canonical_addresses() -> None:
    seen = observe(pod())
    assert seen.subject == "ebbgate.v1.fact.pod.shop.web-1"
    assert seen.kind == "pod"
    assert seen.uid == "u-1"
    assert seen.fact == facts.Pod(
        namespace="shop",
        name="web-1",
        uid="u-1",
        node="node1",
        ips=("10.0.0.1", "fd00::1"),
        labels={"a": "1", "b": "2"},
        phase="Running",
    )
    assert seen.warnings == ()


@pytest.mark.parametrize(
    ("status", "ips"),
    [
        (None, ()),
        ({}, ()),
        ({"podIP": "10.0.0.9"}, ("10.0.0.9",)),
        ({"podIP": ""}, ()),
        ({"podIPs": [], "podIP": "10.0.0.9"}, ("10.0.0.9",)),
        ({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.1"}, {}]}, ("10.0.0.1",)),
    ],
)
def test_pod_ips_are_those_listed_or_the_single_one(status: object, ips: tuple[str, ...]) -> None:
    seen = observe(pod(status=status))
    assert isinstance(seen.fact, facts.Pod)
    assert seen.fact.ips == ips


def test_a_bad_address_is_left_out_and_named_and_the_good_one_stays() -> None:
    seen = observe(pod(status={"podIPs": [{"ip": "10.0.0.256"}, {"ip": "10.0.0.2"}, {"ip": "fe80::1%eth0"}]}))
    assert isinstance(seen.fact, facts.Pod)
    assert seen.fact.ips == ("10.0.0.2",)
    assert [text for text in seen.warnings if "10.0.0.256" in text]
    assert len(seen.warnings) == 2


def test_a_pod_without_uid_and_namespace_is_named_by_its_place() -> None:
    seen = observe(pod(metadata={"name": "web-1"}))
    assert seen.uid == "default/web-1"
    assert seen.subject == "ebbgate.v1.fact.pod.default.web-1"


def test_host_network_and_phase_travel_as_they_are() -> None:
    seen = observe(pod(spec={"hostNetwork": True}, status={"phase": "Succeeded"}))
    assert isinstance(seen.fact, facts.Pod)
    assert seen.fact.host_network
    assert seen.fact.phase == "Succeeded"
    assert seen.fact.node == ""


def test_a_heartbeat_changes_no_byte_of_a_fact() -> None:
    later = pod()
    later["metadata"] = later["metadata"] | {"resourceVersion": "99", "managedFields": [{"manager": "x"}]}
    later["status"] = later["status"] | {"conditions": [{"type": "Ready", "status": "True"}]}
    assert codec.encode(observe(later).fact) == codec.encode(observe(pod()).fact)
    assert observe(later).resource_version == "99"


def test_internal_addresses_of_a_node_come_before_external_ones() -> None:
    seen = observe(
        {
            "kind": "Node",
            "metadata": {"name": "node1.example", "labels": {"zone": "a"}},
            "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.7/24", "fd00:1::/64", "10.0.0.0"]},
            "status": {
                "addresses": [
                    {"type": "Hostname", "address": "node1"},
                    {"type": "ExternalIP", "address": "203.0.113.1"},
                    {"type": "InternalIP", "address": "10.168.60.11"},
                    {"type": "InternalIP", "address": "nonsense"},
                ]
            },
        }
    )
    assert seen.subject == "ebbgate.v1.fact.node.node1_example"
    assert seen.fact == facts.Node(
        name="node1.example",
        labels={"zone": "a"},
        internal_ips=("10.168.60.11",),
        addresses=("10.168.60.11", "203.0.113.1"),
        pod_cidrs=("10.244.1.0/24", "fd00:1::/64"),
    )
    assert len(seen.warnings) == 2


def test_a_node_without_an_address_is_still_a_fact() -> None:
    assert observe({"kind": "Node", "metadata": {"name": "bare"}}).fact == facts.Node(name="bare")


@pytest.mark.parametrize(
    ("spec", "json_text"),
    [
        ({"b": 1, "a": {"d": None, "c": [2, 1]}}, b'{"a":{"c":[2,1],"d":null},"b":1}'),
        ({"selectors": "not a list"}, b'{"selectors":"not a list"}'),
        ([1, "two"], b'[1,"two"]'),
        ("text", b'"text"'),
        (None, b"null"),
    ],
)
def test_the_spec_of_a_policy_travels_unjudged_as_sorted_json(spec: object, json_text: bytes) -> None:
    seen = observe(policy(spec))
    assert isinstance(seen.fact, facts.Policy)
    assert bytes(seen.fact.spec) == json_text
    assert seen.fact.uid == "p"


def test_a_policy_without_spec_has_spec_null() -> None:
    whole = policy({})
    del whole["spec"]
    seen = observe(whole)
    assert isinstance(seen.fact, facts.Policy)
    assert bytes(seen.fact.spec) == b"null"


@pytest.mark.parametrize(
    "created",
    [
        "2024-05-01T10:00:00Z",
        "2024-05-01T10:00:00.5+00:00",
        datetime.datetime(2024, 5, 1, 10, tzinfo=datetime.UTC),
        datetime.datetime(2024, 5, 1, 10),
    ],
)
def test_creation_times_are_written_in_one_way(created: object) -> None:
    seen = observe(policy({}, creationTimestamp=created, generation=7))
    assert isinstance(seen.fact, facts.Policy)
    assert seen.fact.created == "2024-05-01T10:00:00Z"
    assert seen.fact.generation == 7


@pytest.mark.parametrize("created", ["yesterday", "2024-05-01T12:00:00+02:00", "2024-13-01T10:00:00Z"])
def test_what_is_no_time_and_no_uid_is_left_out_and_named(created: str) -> None:
    seen = observe(policy({}, creationTimestamp=created, uid="a b"))
    assert isinstance(seen.fact, facts.Policy)
    assert (seen.fact.created, seen.fact.uid) == ("", "p")
    assert len(seen.warnings) == 2


def test_namespaces_and_service_cidrs_are_read() -> None:
    namespace = observe({"kind": "Namespace", "metadata": {"name": "shop", "labels": {"team": "a"}}})
    assert namespace.fact == facts.Namespace(name="shop", labels={"team": "a"})
    cidr = {"kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1", "metadata": {"name": "kubernetes"}}
    assert observe(cidr | {"spec": {"cidrs": ["10.96.0.0/12"]}}).fact == facts.ServiceCidr(
        name="kubernetes", cidrs=("10.96.0.0/12",)
    )


def test_node_networks_are_sorted_by_index_without_link_local_addresses() -> None:
    seen = observe(
        {
            "apiVersion": "ebbgate.io/v1alpha1",
            "kind": "NodeNetwork",
            "metadata": {"name": "k8s1"},
            "spec": {
                "interfaces": [
                    {
                        "name": "eth1",
                        "index": 3,
                        "altNames": ["enp1"],
                        "addresses": ["FD00::2/64", "fe80::1/64"],
                    },
                    {
                        "name": "eth0",
                        "index": 2,
                        "addresses": ["10.0.0.2/24", "10.0.0.3"],
                        "defaultRoute": ["ipv4"],
                    },
                ]
            },
        }
    )
    assert seen.fact == facts.NodeNetwork(
        node="k8s1",
        interfaces=(
            facts.Interface(name="eth0", index=2, addresses=("10.0.0.2/24",), default_route=("ipv4",)),
            facts.Interface(name="eth1", index=3, alt_names=("enp1",), addresses=("fd00::2/64",)),
        ),
    )
    assert len(seen.warnings) == 1


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        (policy({}, name=""), "it has no name"),
        (policy({}, name="a b"), "not a name"),
        (policy({}, name="a_b"), "not a name"),
        ({"kind": "Pod"}, "it has no name"),
        (
            {"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "d"}},
            "not a kind that is watched",
        ),
        (
            {"kind": "Node", "apiVersion": "metal3.io/v1", "metadata": {"name": "d"}},
            "not a kind that is watched",
        ),
        ({"metadata": {"name": "d"}}, "not a kind that is watched"),
        ("text", "not a Kubernetes object"),
        (None, "not a Kubernetes object"),
        ({"kind": "Pod", True: 1}, "not a Kubernetes object"),
        ({"kind": "Pod", "x": "\ud800"}, "not a Kubernetes object"),
        (pod(metadata={"name": "p", "labels": {"a": 1}}), "labels"),
        (pod(metadata="p"), "metadata"),
        (pod(status={"podIPs": "10.0.0.1"}), "podIPs"),
    ],
)
def test_what_cannot_be_a_fact_is_unusable_with_a_reason(manifest: object, reason: str) -> None:
    assert reason in refuse(manifest).reason


def test_an_object_of_wrong_structure_still_names_the_fact_it_would_have_been() -> None:
    seen = refuse(pod(status={"podIPs": "10.0.0.1"}))
    assert (seen.subject, seen.kind, seen.name) == ("ebbgate.v1.fact.pod.shop.web-1", "pod", "shop/web-1")


def test_an_object_that_contains_itself_is_unusable() -> None:
    loop: dict[str, Any] = {"kind": "Pod"}
    loop["spec"] = loop
    assert "not a Kubernetes object" in refuse(loop).reason


def test_json_of_the_api_and_a_manifest_give_the_same_fact() -> None:
    for manifest in (pod(), policy({"z": 1, "a": [1.5, "x"]}, uid="u-2")):
        seen = observe(manifest)
        raw = json.dumps({key: value for key, value in manifest.items() if key != "kind"}).encode()
        again = objects.read(seen.kind, raw)
        assert isinstance(again, objects.Observed)
        assert codec.encode(again.fact) == codec.encode(seen.fact)
        assert objects.read(seen.kind, msgspec.Raw(raw)) == again


def test_json_that_is_cut_off_is_unusable() -> None:
    seen = objects.read("pod", b'{"metadata":')
    assert isinstance(seen, objects.Unusable)
    assert seen.subject == ""


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_every_object_of_a_story_is_a_fact_but_the_one_without_name(story: pathlib.Path) -> None:
    steps = yaml.load(story.read_text(), Loader=yaml.CSafeLoader)["steps"]
    seen = [objects.normalise(manifest) for step in steps for manifest in step.get("apply", ())]
    unusable = [each for each in seen if isinstance(each, objects.Unusable)]
    assert seen
    assert all(story.stem == "parser-name-missing" and "no name" in each.reason for each in unusable)
    for each in seen:
        if isinstance(each, objects.Observed):
            assert each.warnings == ()
            assert codec.decode(each.subject, codec.encode(each.fact)) == each.fact


def test_a_spec_nested_without_end_is_named_and_no_fact() -> None:
    for depth, reason in ((objects.MAX_DEPTH + 1, "deeper than"), (5_000, "recursion")):
        spec = "[" * depth + "]" * depth
        seen = objects.read("policy", f'{{"metadata": {{"name": "p"}}, "spec": {spec}}}'.encode())
        assert isinstance(seen, objects.Unusable)
        assert reason in seen.reason
    spec = "[" * objects.MAX_DEPTH + "]" * objects.MAX_DEPTH
    seen = objects.read("policy", f'{{"metadata": {{"name": "p"}}, "spec": {spec}}}'.encode())
    assert isinstance(seen, objects.Observed)


def test_an_object_larger_than_the_bus_takes_is_named_and_no_fact() -> None:
    spec = {"note": "x" * objects.MAX_BYTES}
    seen = objects.normalise(
        {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumEgressGatewayPolicy",
            "metadata": {"name": "p"},
            "spec": spec,
        }
    )
    assert isinstance(seen, objects.Unusable)
    assert "bytes" in seen.reason
    assert seen.subject == "ebbgate.v1.fact.policy.p"
