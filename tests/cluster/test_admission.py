"""The CRD's schema and rules on the real API server: what is refused at `kubectl apply` and with which words,
and that whatever Cilium admits is admitted.
"""

import pathlib
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ebbgate_lab import apiserver
from ebbgate_lab.cluster.kubectl import Kubectl

STORIES = pathlib.Path(__file__).parents[1] / "stories"
KIND = "CiliumEgressGatewayPolicy"
COLLECTION = apiserver.collection("cilium.io/v2", KIND)
CREATED, INVALID = 201, 422
GATEWAY: dict[str, Any] = {"nodeSelector": {"matchLabels": {"egress": "yes"}}}
BOTH = GATEWAY | {"interface": "eth1", "egressIP": "192.0.2.1"}
GOOD: dict[str, Any] = {
    "selectors": [{"podSelector": {"matchLabels": {"org": "empire"}}}],
    "destinationCIDRs": ["0.0.0.0/0"],
    "egressGateway": GATEWAY | {"egressIP": "192.0.2.1"},
}


def needs(**requirement: object) -> dict[str, Any]:
    return {"matchExpressions": [{"key": "app", **requirement}]}


def rule(**parts: object) -> dict[str, Any]:
    return {"selectors": [parts]}


def gateway(**parts: object) -> dict[str, Any]:
    return {"egressGateway": GATEWAY | parts}


def gateways(*items: object) -> dict[str, Any]:
    return {"egressGateway": None, "egressGateways": list(items)}


ADMITTED: dict[str, dict[str, Any]] = {
    "as documented": {},
    "no selector": {"selectors": []},
    "all pods": rule(podSelector={}),
    "all namespaces": rule(namespaceSelector={}),
    "all three": rule(podSelector={}, namespaceSelector={}, nodeSelector={"matchLabels": {"zone": ""}}),
    "a namespace as a label": rule(podSelector={"matchLabels": {"io.kubernetes.pod.namespace": "default"}}),
    "a key of Cilium's": rule(podSelector={"matchLabels": {"k8s:org": "empire"}}),
    "every operator": {
        "selectors": [
            {"podSelector": needs(operator="In", values=["a", ""])},
            {"podSelector": needs(operator="NotIn", values=["a"])},
            {"podSelector": needs(operator="Exists")},
            {"podSelector": needs(operator="DoesNotExist", values=[])},
            {"podSelector": {"matchLabels": None, "matchExpressions": None}},
        ]
    },
    "no destination": {"destinationCIDRs": []},
    "host bits": {"destinationCIDRs": ["192.0.2.1/24"], "excludedCIDRs": ["2001:db8::1/64"]},
    "all of IPv6": {"destinationCIDRs": ["::/0", "2001:DB8:0:0:0:0:0:0/32"]},
    "an IPv4-mapped CIDR": {"destinationCIDRs": ["::ffff:192.0.2.0/120"]},
    "nulls": {"excludedCIDRs": None, "egressGateways": None},
    "an empty list": {"egressGateways": []},
    "gateway without anything": {"egressGateway": {"nodeSelector": {}}},
    "empty texts": gateway(interface="eth1", egressIP=""),
    "an interface": {"egressGateway": GATEWAY | {"interface": "enp0s31f6", "egressIP": None}},
    "IPv6 egress IP": gateway(egressIP="2001:db8::1"),
    "an address that no gateway has": gateway(egressIP="0.0.0.0"),
    "gateways alone": gateways(GATEWAY, GATEWAY | {"interface": "eth1"}),
    "64 gateways": gateways(*[GATEWAY] * 64),
    "both forms": {"egressGateways": [GATEWAY]},
    "what isn't looked at": {
        "egressGateway": {"nodeSelector": needs(operator="In"), "interface": "x", "egressIP": "192.0.2.1"},
        "egressGateways": [GATEWAY],
    },
    "a field of a later version": {"tariff": "night"},
    "1,000 rules": {"selectors": [{"podSelector": {"matchLabels": {"n": str(n)}}} for n in range(1000)]},
    "20,000 CIDRs": {"destinationCIDRs": [f"10.{n >> 8}.{n & 255}.0/24" for n in range(20_000)]},
}

NO_CIDR = "is not a CIDR; write 192.0.2.0/24, or 192.0.2.1/32 for one address"
NO_IP = "is not an IP address; write it without prefix length"
TWO = "names both interface and egressIP; leave one of them out"
NO_PODS = "needs a podSelector or a namespaceSelector; nodeSelector alone chooses no pods"
VALUES = "operators In and NotIn need at least one value"
NO_VALUES = "operators Exists and DoesNotExist take no values; remove them"
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "selectors missing": ({"selectors": None}, "spec.selectors", "Required value"),
    "destinations missing": ({"destinationCIDRs": None}, "spec.destinationCIDRs", "Required value"),
    "gateway missing": (
        {"egressGateway": None},
        "spec.egressGateway",
        "a policy needs egressGateway or egressGateways",
    ),
    "gateways empty": (gateways(), "spec.egressGateway", "a policy needs egressGateway or egressGateways"),
    "gateway without nodes": (
        {"egressGateway": {"interface": "eth1"}},
        "spec.egressGateway.nodeSelector",
        "Required value",
    ),
    "65 gateways": (gateways(*[GATEWAY] * 65), "spec.egressGateways", "must have at most 64 items"),
    "interface and address": ({"egressGateway": BOTH}, "spec.egressGateway", TWO),
    "of the second gateway": (gateways(GATEWAY, BOTH), "spec.egressGateways[1]", TWO),
    "an empty rule": (rule(), "spec.selectors[0]", NO_PODS),
    "a rule of nulls": (rule(podSelector=None, namespaceSelector=None), "spec.selectors[0]", NO_PODS),
    "a rule of nodes": (rule(nodeSelector={}), "spec.selectors[0]", NO_PODS),
    "selectors as a text": ({"selectors": "all"}, "spec.selectors", "must be of type array"),
    "an unknown operator": (
        rule(podSelector=needs(operator="Equals", values=["a"])),
        "spec.selectors[0].podSelector.matchExpressions[0].operator",
        'supported values: "In", "NotIn", "Exists", "DoesNotExist"',
    ),
    "In without values": (
        rule(podSelector=needs(operator="In")),
        "spec.selectors[0].podSelector.matchExpressions[0].values",
        VALUES,
    ),
    "NotIn without values": (
        rule(namespaceSelector=needs(operator="NotIn", values=[])),
        "spec.selectors[0].namespaceSelector.matchExpressions[0].values",
        VALUES,
    ),
    "Exists with values": (
        rule(podSelector={}, nodeSelector=needs(operator="Exists", values=["a"])),
        "spec.selectors[0].nodeSelector.matchExpressions[0].values",
        NO_VALUES,
    ),
    "a gateway's expression": (
        {"egressGateway": {"nodeSelector": needs(operator="In")}},
        "spec.egressGateway.nodeSelector.matchExpressions",
        "In and NotIn need at least one value, Exists and DoesNotExist take none",
    ),
    "an expression in the list": (
        gateways({"nodeSelector": needs(operator="DoesNotExist", values=["a"])}),
        "spec.egressGateways[0].nodeSelector.matchExpressions[0].values",
        NO_VALUES,
    ),
    "a label's value": (
        rule(podSelector={"matchLabels": {"app": "a b"}}),
        "spec.selectors[0].podSelector.matchLabels.app",
        "should match",
    ),
    "an expression's value": (
        rule(podSelector=needs(operator="In", values=["a b"])),
        "spec.selectors[0].podSelector.matchExpressions[0].values[0]",
        "should match",
    ),
    "no prefix length": ({"destinationCIDRs": ["2.0.0.0"]}, "spec.destinationCIDRs[0]", NO_CIDR),
    "a netmask": ({"destinationCIDRs": ["2.0.0.0/255.0.0.0"]}, "spec.destinationCIDRs[0]", NO_CIDR),
    "a long prefix": ({"destinationCIDRs": ["::/0", "2.0.0.0/33"]}, "spec.destinationCIDRs[1]", NO_CIDR),
    "a number": ({"destinationCIDRs": [2]}, "spec.destinationCIDRs[0]", "must be of type string"),
    "an exclusion": ({"excludedCIDRs": ["example.org"]}, "spec.excludedCIDRs[0]", NO_CIDR),
    "a mapped one too long": (
        {"destinationCIDRs": ["::ffff:1.2.3.4/129"]},
        "spec.destinationCIDRs[0]",
        NO_CIDR,
    ),
    "an address with length": (gateway(egressIP="192.0.2.1/32"), "spec.egressGateway.egressIP", NO_IP),
    "an address with zone": (gateway(egressIP="fe80::1%eth0"), "spec.egressGateway.egressIP", NO_IP),
    "a name": (gateways(GATEWAY | {"egressIP": "a.b"}), "spec.egressGateways[0].egressIP", NO_IP),
}

LEFT_TO_THE_RESOLVER = [
    ("own-rejected-forms", "a label key that is none"),
    ("own-rejected-forms", "an egress IP that is no source"),
    ("own-rejected-forms", "an egress IP that is multicast"),
    ("own-two-policies-with-one-uid", "its copy is rejected, though its name is smaller"),
]
"""Steps of stories whose policy is admitted though it is rejected: Cilium admits it, or the API gives uids of
its own.
"""


def without_nulls(spec: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if value is not None}


def manifest(spec: dict[str, Any], name: str = "tried") -> dict[str, Any]:
    return {"apiVersion": "cilium.io/v2", "kind": KIND, "metadata": {"name": name}, "spec": spec}


def tried(api: apiserver.ApiServer, wanted: dict[str, Any]) -> tuple[int, list[tuple[str, str]]]:
    """HTTP status of a creation that leaves nothing behind, and why it was refused: fields and words."""
    status, answer = api.client.request("POST", f"{COLLECTION}?dryRun=All", wanted)
    causes = answer.get("details", {}).get("causes", [])
    return status, [(cause.get("field", ""), cause.get("message", "")) for cause in causes]


@pytest.mark.parametrize("name", ADMITTED)
def test_what_cilium_admits_is_admitted(api: apiserver.ApiServer, name: str) -> None:
    assert tried(api, manifest(GOOD | ADMITTED[name])) == (CREATED, [])


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_work_is_refused_with_its_field_and_a_reason(
    api: apiserver.ApiServer, name: str
) -> None:
    spec, field, words = REFUSED[name]
    status, causes = tried(api, manifest(without_nulls(GOOD | spec)))
    assert status == INVALID
    assert [cause for cause in causes if cause[0] == field and words in cause[1]], causes
    assert tried(api, manifest(GOOD | spec))[0] == INVALID


def stories() -> Iterator[tuple[str, str, dict[str, Any], bool]]:
    """Of each policy in each story: the story, the step, its manifest, whether it is rejected then."""
    for path in sorted(STORIES.glob("*.yaml")):
        story = yaml.safe_load(path.read_text())
        for step in story["steps"]:
            rejected = step.get("expect", {}).get("rejected", [])
            for each in step.get("apply", ()):
                if each["kind"] == KIND:
                    yield story["name"], step["title"], each, each["metadata"]["name"] in rejected


def test_policies_of_stories_are_admitted_if_cilium_does_and_refused_if_the_resolver_would(
    api: apiserver.ApiServer,
) -> None:
    told = []
    for story, step, policy, is_rejected in stories():
        status, _ = tried(api, policy | {"metadata": {"name": policy["metadata"]["name"]}})
        if (status == CREATED) == is_rejected:
            told.append((story, step))
    assert told == LEFT_TO_THE_RESOLVER


@pytest.fixture(scope="module")
def kubectl(api: apiserver.ApiServer) -> Kubectl:
    return Kubectl(api.kubeconfig("admin"), "")


def apply(kubectl: Kubectl, spec: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    return kubectl.run("apply", "--dry-run=server", "-f", "-", text=yaml.safe_dump(manifest(spec)))


def test_kubectl_says_what_is_wrong_and_where(kubectl: Kubectl) -> None:
    assert apply(kubectl, GOOD).stdout.strip().endswith("created (server dry run)")
    said = apply(kubectl, GOOD | {"egressGateway": BOTH, "destinationCIDRs": ["2.0.0.0"]}).stderr
    assert f'spec.destinationCIDRs[0]: Invalid value: "2.0.0.0": {NO_CIDR}' in said
    assert "spec.egressGateway" in said
    assert TWO in said


def test_every_field_is_explained(kubectl: Kubectl) -> None:
    shown = kubectl.call("explain", "cegp", "--recursive")
    assert "egressGateways" in shown
    for path in ("spec", "spec.selectors.podSelector", "spec.egressGateways.egressIP", "status.summary"):
        assert "<empty>" not in kubectl.call("explain", f"cegp.{path}"), path
