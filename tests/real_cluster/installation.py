"""Ebbgate as it was installed on a cluster, for the story of its deployment: what it stands on, what is
looked at, and how it goes.
"""

import base64
import contextlib
import pathlib
from collections.abc import Mapping
from typing import Any

from ebbgate_lab import lab
from ebbgate_lab.cluster import scene as scenes
from tests.docs import pages, register, shell

from .traffic import Traffic, until

NAMESPACE = "ebbgate"
HELM_S = 150.0


def make_volumes(scene: scenes.Scene, node: str, *names: str) -> None:
    """Local volumes on a node, for who asks for no class of his own."""
    usual = {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    claimed = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": usual}
    lazily = {"provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"}
    scene.kubectl.apply(claimed | lazily)
    for name in names:
        _make_volume(scene, node, name)


def _make_volume(scene: scenes.Scene, node: str, name: str) -> None:
    # What is below the kubelet's folder on a node is below its own here.
    (scene.folder / "cluster" / node / "kubelet" / name).mkdir()
    where = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    spec = {
        "capacity": {"storage": "2Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "local",
        "local": {"path": f"/var/lib/kubelet/{name}"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [where]}]}},
    }
    metadata = {"name": name}
    scene.kubectl.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec})


def assert_clean(scene: scenes.Scene, traffic: Traffic) -> None:
    pods = scene.kubectl.get("pods", "-l", f"app={traffic.name}")["items"]
    addresses = {pod["spec"]["nodeName"]: pod["status"]["podIP"] for pod in pods}
    for name, node in scene.cluster.nodes.items():
        traffic.until_seen_from(addresses[name], source=node.host.addresses[0])
        assert "ebbgate" not in scene.topology.run(name, "nft", "list", "tables")
        assert "ebbgate0" not in scene.topology.run(name, "ip", "link")


def uninstall(scene: scenes.Scene, person: shell.Shell) -> None:
    person.type(register.UNINSTALL, more="--wait", within_s=HELM_S)
    until(
        lambda: not scene.kubectl.get("-n", NAMESPACE, "pods")["items"],
        lambda: scene.kubectl.call("-n", NAMESPACE, "get", "pods"),
    )


def type_notes(scene: scenes.Scene, person: shell.Shell, words: Mapping[str, str]) -> None:
    """What Helm said last, in its order; but what the story types elsewhere."""
    said = scene.helm.call("get", "notes", NAMESPACE, "--namespace", NAMESPACE)
    elsewhere = {register.CLEAN, register.UNINSTALL}
    for command in pages.of_notes(said):
        if shell.filled(command, words) not in elsewhere:
            person.type(command, words=words)


def listen(scene: scenes.Scene, person: shell.Shell) -> None:
    """With a reader's token, where a bus outside of the cluster is."""
    person.type("kubectl create token ebbgate-reader -n ebbgate --audience ebbgate-nats > token")
    (person.folder / "ca.crt").write_bytes(secret(scene, "ebbgate-nats-ca")["ca.crt"])
    url, netns = f"nats://{lab.CONTROL}:4222", scene.netns("control")
    person.type("ebbgate --nats-ca ca.crt --nats-token token list", more=f"--nats {url}", netns=netns)
    person.type(register.LISTEN, more=f"--server {url}", netns=netns)


def allow(scene: scenes.Scene, user: str, rules: list[dict[str, Any]]) -> None:
    """In Ebbgate's namespace."""
    named = {"metadata": {"name": user, "namespace": NAMESPACE}}
    group = "rbac.authorization.k8s.io"
    scene.kubectl.apply({"apiVersion": f"{group}/v1", "kind": "Role", "rules": rules} | named)
    bound = {"roleRef": {"apiGroup": group, "kind": "Role", "name": user}}
    subjects = [{"apiGroup": group, "kind": "User", "name": user}]
    binding = {"apiVersion": f"{group}/v1", "kind": "RoleBinding", "subjects": subjects}
    scene.kubectl.apply(binding | bound | named)


def more_than_restricted(scene: scenes.Scene) -> list[str]:
    """Names of pods, or the first of several that are alike."""
    level = "pod-security.kubernetes.io/enforce=restricted"
    done = scene.kubectl.run("label", "namespace", NAMESPACE, level, "--overwrite", "--dry-run=server")
    return [line.split()[1].rstrip(":") for line in done.stderr.splitlines() if "Warning: ebbgate" in line]


def server_certificate(scene: scenes.Scene) -> bytes:
    return secret(scene, "ebbgate-nats-server")["tls.crt"]


def secret(scene: scenes.Scene, name: str) -> dict[str, bytes]:
    data = scene.kubectl.get("-n", NAMESPACE, "secret", name)["data"]
    return {key: base64.b64decode(value) for key, value in data.items()}


def in_programmer(scene: scenes.Scene, *command: str) -> str:
    options = ("-c", "programmer", programmers(scene)[0], "--")
    return scene.kubectl.call("-n", NAMESPACE, "exec", *options, *command)


def called(scene: scenes.Scene, component: str, place: str, port: int) -> str:
    """What such a pod of ours says of a TCP connection to there: nothing, or an error."""
    selected = f"app.kubernetes.io/component={component}"
    pods = scene.kubectl.get("-n", NAMESPACE, "pods", "-l", selected)["items"]
    code = f"import socket; socket.create_connection(({place!r}, {port}), 2)"
    done = scene.kubectl.run(
        "-n", NAMESPACE, "exec", pods[0]["metadata"]["name"], "--", "python3", "-c", code
    )
    assert bool(done.returncode) == ("Error" in done.stderr), done.stderr
    return done.stderr


def programmers(scene: scenes.Scene) -> list[str]:
    """Names of pods."""
    selected = "app.kubernetes.io/component=programmer"
    pods = scene.kubectl.get("-n", NAMESPACE, "pods", "-l", selected)["items"]
    return [pod["metadata"]["name"] for pod in pods]


def forwarding(person: shell.Shell) -> list[str]:
    """Command lines of that person's kubectl that go on."""
    program = str(person.folder / ".bin" / "kubectl")
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_text().split("\0")
            found += [" ".join(words)] if words[0] == program else []
    return found
