"""Ebbgate as a user installs it: its images, its chart, the real Helm and kubectl, on a cluster of its own;
and all that is done to an installation, while pods visit nginx without pause.

One story, told by the tests in their order: installed, restarted, drained, upgraded, uninstalled,
installed in another size, cleaned.
"""

import base64
import json
import pathlib
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from ebbgate_lab import apiserver, images, lab, processes
from ebbgate_lab.cluster import helm
from ebbgate_lab.cluster import scene as scenes

from .traffic import Traffic, until
from .visitors import EGRESS, GATEWAY

PREFIX = "ebrd-"
NAMESPACE = "ebbgate"
INSTALL = (NAMESPACE, str(helm.CHART), "--namespace", NAMESPACE, "--wait", "--timeout", "120s")
CRD = "crd/ciliumegressgatewaypolicies.cilium.io"
WORKLOADS = (
    "deployment/ebbgate-watcher",
    "deployment/ebbgate-resolver",
    "deployment/ebbgate-usher",
    "statefulset/ebbgate-nats",
    "daemonset/ebbgate-programmer",
)
NEVER = {"pullPolicy": "Never"}
VALUES: dict[str, Any] = {
    "image": NEVER,
    "programmer": {"image": NEVER},
    "nats": {"image": NEVER, "storage": {"className": "local"}},
    "networkPolicies": {"nodeCIDRs": ["10.168.60.0/24"]},
}
THREE = {"replicas": 3, "image": NEVER, "storage": {"kind": "emptyDir"}}

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[scenes.Scene]:
    """A cluster with Ebbgate's images on its nodes, and nothing else of it."""
    folder = tmp_path_factory.mktemp("deployed")
    archives = images.given_or_made(folder)
    scene = scenes.Scene(prefix=PREFIX, folder=folder / "lab", images=archives, bare=True)
    try:
        scene.build()
        scene.begin()
        # Whoever has one stays on its node: not on the one that is drained.
        make_volume(scene, "node3")
        yield scene
    finally:
        scene.down()


def make_volume(scene: scenes.Scene, name: str) -> None:
    """A local volume on a node, for who asks for the class `local`."""
    claimed = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "local"}}
    lazily = {"provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"}
    scene.kubectl.apply(claimed | lazily)
    # What is below the kubelet's folder on a node is below its own here.
    (scene.folder / "cluster" / name / "kubelet" / "volume").mkdir()
    where = {"key": "kubernetes.io/hostname", "operator": "In", "values": [name]}
    spec = {
        "capacity": {"storage": "2Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "local",
        "local": {"path": "/var/lib/kubelet/volume"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [where]}]}},
    }
    metadata = {"name": name}
    scene.kubectl.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec})


@pytest.fixture(scope="module")
def traffic(scene: scenes.Scene) -> Traffic:
    return Traffic("deployed", scene)


def test_it_is_installed_and_a_pod_leaves_with_the_egress_ip(scene: scenes.Scene, traffic: Traffic) -> None:
    scene.helm.call("install", *INSTALL, "--create-namespace", values=VALUES)
    traffic.begin(3)
    told = scene.kubectl.call("describe", "cegp", traffic.name)
    assert "Normal  Programmed" in told[told.index("Events:") :], told
    traffic.assert_none_lost_or_wrong()


def test_only_the_programmer_is_more_than_restricted(scene: scenes.Scene) -> None:
    """As the API server's own admission sees it, and as it is on a node."""
    asked = (
        "label",
        "namespace",
        NAMESPACE,
        "pod-security.kubernetes.io/enforce=restricted",
        "--dry-run=server",
    )
    done = scene.kubectl.run(*asked)
    found = [line.split()[1].rstrip(":") for line in done.stderr.splitlines() if "Warning: ebbgate" in line]
    assert found, done.stderr
    assert all(name.startswith("ebbgate-programmer") for name in found), done.stderr
    status = in_programmer(scene, "cat", "/proc/1/status")
    fields = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 1 << 12 | 1 << 39
    assert (fields["NoNewPrivs"], fields["Seccomp"].strip()) == ("1", "2")


def test_its_own_tools_find_nothing_wrong(scene: scenes.Scene) -> None:
    listed = scene.kubectl.call(
        "-n", NAMESPACE, "exec", "deployment/ebbgate-cli", "--", "ebbgate", "list", "-o", "json"
    )
    assert {row["EgressIP"] for row in json.loads(listed)} == {EGRESS}
    found = json.loads(in_programmer(scene, "ebbgate-programmer", "doctor", "-o", "json"))
    assert [each for each in found if each["severity"] == "problem"] == []


def test_nobody_is_let_onto_the_bus_without_saying_who_he_is(scene: scenes.Scene) -> None:
    options = ("-n", NAMESPACE, "exec", "deployment/ebbgate-cli", "--", "sh", "-c")
    scene.kubectl.call(*options, "ebbgate nodes")
    done = scene.kubectl.run(*options, "EBBGATE_NATS_TOKEN= ebbgate nodes")
    assert done.returncode
    assert "doesn't accept our credentials" in done.stderr
    done = scene.kubectl.run(*options, "EBBGATE_NATS_CA= ebbgate nodes")
    assert done.returncode


def test_who_is_no_part_of_it_is_kept_from_the_bus(scene: scenes.Scene, traffic: Traffic) -> None:
    """By network policies, which kube-router enforces on each node."""
    stranger = scene.kubectl.get("pods", "-l", f"app={traffic.name}")["items"][0]["metadata"]["name"]
    servers = scene.kubectl.get("-n", NAMESPACE, "pods", "-l", "app.kubernetes.io/component=nats")["items"]
    watchers = scene.kubectl.get("-n", NAMESPACE, "pods", "-l", "app.kubernetes.io/component=watcher")[
        "items"
    ]

    def asked(url: str) -> subprocess.CompletedProcess[str]:
        return scene.kubectl.run("exec", stranger, "--", "curl", "-sS", "--max-time", "3", url)

    assert asked(f"http://{watchers[0]['status']['podIP']}:8080/healthz").stdout == "ok\n"
    for port in (4222, 6222, 8222):
        done = asked(f"telnet://{servers[0]['status']['podIP']}:{port}")
        assert "Failed to connect" in done.stderr, done


@pytest.mark.parametrize("workload", WORKLOADS)
def test_restarted_nothing_is_lost_or_wrong(scene: scenes.Scene, traffic: Traffic, workload: str) -> None:
    scene.kubectl.call("-n", NAMESPACE, "rollout", "restart", workload)
    scene.kubectl.call("-n", NAMESPACE, "rollout", "status", workload, "--timeout=50s")
    traffic.until_more()
    traffic.assert_none_lost_or_wrong()


def test_a_gateway_is_drained(scene: scenes.Scene, traffic: Traffic) -> None:
    """What of Ebbgate's runs there moves; the gateway itself goes on."""
    options = ("--ignore-daemonsets", "--delete-emptydir-data", "--timeout=50s")
    try:
        scene.kubectl.call("drain", GATEWAY, *options, f"--pod-selector=app!={traffic.name}")
        for workload in WORKLOADS:
            scene.kubectl.call("-n", NAMESPACE, "rollout", "status", workload, "--timeout=50s")
    finally:
        scene.kubectl.call("uncordon", GATEWAY)
    traffic.until_more()
    traffic.assert_none_lost_or_wrong()


def test_upgraded(scene: scenes.Scene, traffic: Traffic) -> None:
    """By values that change all pods at once, with keys and certificates anew."""
    before = server_certificate(scene)
    changed = ["credentials.rotate=true"]
    changed += [f"{name}.podAnnotations.round=two" for name in ("watcher", "resolver", "programmer", "nats")]
    scene.helm.call("upgrade", *INSTALL, "--reuse-values", "--set", ",".join(changed))
    assert server_certificate(scene) != before
    traffic.follow_a_change("192.0.2.0/24")
    traffic.until_more()
    traffic.assert_none_lost_or_wrong()


def test_a_second_one_is_refused(scene: scenes.Scene) -> None:
    done = scene.helm.run(
        "install", "other", str(helm.CHART), "-n", "other", "--create-namespace", values=VALUES
    )
    assert done.returncode
    assert "already, as release ebbgate in namespace ebbgate" in done.stderr
    assert scene.kubectl.run("-n", "other", "get", "deployments,daemonsets", "-o", "name").stdout == ""


def test_a_bus_of_another_size_is_refused(scene: scenes.Scene) -> None:
    done = scene.helm.run("upgrade", *INSTALL, "--reuse-values", "--set", "nats.replicas=3")
    assert done.returncode
    assert "nats.replicas is 1 in this release, and can't become 3" in done.stderr


def test_uninstalled_policies_stay_and_nodes_go_on(scene: scenes.Scene, traffic: Traffic) -> None:
    uninstall(scene)
    scene.kubectl.call("get", CRD, f"cegp/{traffic.name}")
    traffic.until_more()
    traffic.assert_none_lost_or_wrong()


def test_installed_again_with_three_servers(scene: scenes.Scene, traffic: Traffic) -> None:
    """An empty bus knows no gateway to be ready, until each has answered: dropped meanwhile, never wrong."""
    scene.helm.call("install", *INSTALL, values=VALUES | {"nats": THREE})
    traffic.follow_a_change("198.51.100.0/24")
    traffic.until_more()
    traffic.forgive()
    traffic.assert_none_lost_or_wrong()


def test_three_servers_are_restarted(scene: scenes.Scene, traffic: Traffic) -> None:
    """One after the other: meanwhile what is changed is obeyed."""
    nats = "statefulset/ebbgate-nats"
    scene.kubectl.call("-n", NAMESPACE, "rollout", "restart", nats)
    traffic.follow_a_change("203.0.113.0/24")
    scene.kubectl.call("-n", NAMESPACE, "rollout", "status", nats, "--timeout=60s")
    traffic.until_more()
    traffic.assert_none_lost_or_wrong()


def test_installed_with_a_nats_of_ones_own(
    scene: scenes.Scene, traffic: Traffic, tmp_path: pathlib.Path
) -> None:
    """Outside of the cluster, with the accounts and the certificate that the chart's job made for it."""
    uninstall(scene)
    bus = {"url": f"nats://{lab.CONTROL}:4222", "auth": {"enabled": True}, "tls": {"enabled": True}}
    options = [each for each in INSTALL if each != "--wait"]
    scene.helm.call(
        "install", *options, values=VALUES | {"nats": bus, "credentials": {"names": [lab.CONTROL]}}
    )
    for name, content in secret(scene, "ebbgate-nats-server").items():
        (tmp_path / name).write_bytes(content)
    security = f"""
        tls {{ cert_file: "{tmp_path}/tls.crt", key_file: "{tmp_path}/tls.key" }}
        include "accounts.conf"
    """
    server = processes.nats_server(
        tmp_path, host=lab.CONTROL, port=4222, netns=scene.netns("control"), security=security
    )
    try:
        server.start()
        traffic.follow_a_change("192.0.2.64/26")
        traffic.until_more()
        traffic.forgive()
        traffic.assert_none_lost_or_wrong()
    finally:
        server.kill()


def test_cleaned_nodes_are_as_they_were(scene: scenes.Scene, traffic: Traffic) -> None:
    """All pods of Ebbgate are gone before; that the clean step was forgotten is no harm."""
    uninstall(scene)
    scene.helm.call("install", *INSTALL, "--set", "clean=true", values=VALUES)
    pods = scene.kubectl.get("pods", "-l", f"app={traffic.name}")["items"]
    addresses = {pod["spec"]["nodeName"]: pod["status"]["podIP"] for pod in pods}
    for name, node in scene.cluster.nodes.items():
        traffic.until_seen_from(addresses[name], source=node.host.addresses[0])
        assert "ebbgate" not in scene.topology.run(name, "nft", "list", "tables")
        assert "ebbgate0" not in scene.topology.run(name, "ip", "link")
    uninstall(scene)


def test_where_nobody_mounts_a_bpf_filesystem_the_chart_does(scene: scenes.Scene, traffic: Traffic) -> None:
    bare = "/var/lib/kubelet/bpffs"
    for name in scene.cluster.nodes:
        (scene.folder / "cluster" / name / "kubelet" / "bpffs").mkdir()
    programmer = {"programmer": {"image": NEVER, "bpffs": {"mount": True, "path": bare}}}
    scene.helm.call("install", *INSTALL, values=VALUES | programmer)
    traffic.follow_a_change("198.51.100.128/26")
    assert "ebbgate" in in_programmer(scene, "ls", "/sys/fs/bpf").split()
    scene.helm.call("upgrade", *INSTALL, "--reuse-values", "--set", "clean=true")
    uninstall(scene)


def test_without_helm_by_the_plain_manifest(scene: scenes.Scene, traffic: Traffic) -> None:
    """Taken away again, policies are still there."""
    manifest = ("-f", str(apiserver.CRD.with_name("ebbgate.yaml")))
    scene.kubectl.call("apply", "--server-side", "--force-conflicts", "-f", str(apiserver.CRD), *manifest)
    traffic.follow_a_change("198.51.100.64/26")
    traffic.until_more()
    scene.kubectl.call("delete", "--wait=false", *manifest)
    scene.kubectl.call("get", CRD, f"cegp/{traffic.name}")


def uninstall(scene: scenes.Scene) -> None:
    scene.helm.call("uninstall", NAMESPACE, "--namespace", NAMESPACE, "--wait")
    until(
        lambda: not scene.kubectl.get("-n", NAMESPACE, "pods")["items"],
        lambda: scene.kubectl.call("-n", NAMESPACE, "get", "pods"),
    )


def server_certificate(scene: scenes.Scene) -> bytes:
    return secret(scene, "ebbgate-nats-server")["tls.crt"]


def secret(scene: scenes.Scene, name: str) -> dict[str, bytes]:
    data = scene.kubectl.get("-n", NAMESPACE, "secret", name)["data"]
    return {key: base64.b64decode(value) for key, value in data.items()}


def in_programmer(scene: scenes.Scene, *command: str) -> str:
    selected = "app.kubernetes.io/component=programmer"
    pods = scene.kubectl.get("-n", NAMESPACE, "pods", "-l", selected)["items"]
    options = ("-c", "programmer", pods[0]["metadata"]["name"], "--")
    return scene.kubectl.call("-n", NAMESPACE, "exec", *options, *command)
