"""The chart as Helm renders it, without a cluster: what it must agree with elsewhere, and what it refuses."""

import argparse
import asyncio
import json
import pathlib
import re
import subprocess
import time
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import yaml

from ebbgate_bus.runtime import access
from ebbgate_lab import apiserver, images, processes
from ebbgate_lab.cluster import helm
from ebbgate_programmer import settings as programmer_settings
from ebbgate_resolver import settings as resolver_settings
from ebbgate_usher.io import making, stores
from ebbgate_watcher import settings as watcher_settings

ROOT = pathlib.Path(apiserver.__file__).parents[3]
RIGHTS = (apiserver.RBAC, apiserver.RBAC.with_name("rbac-bus.yaml"))
MANIFEST = ROOT / "deploy/ebbgate.yaml"
ON = {"enabled": True}
Manifest = dict[str, Any]


def run(*arguments: str, **values: Any) -> subprocess.CompletedProcess[str]:
    command = [
        str(apiserver.binary("helm")),
        "template",
        "ebbgate",
        str(helm.CHART),
        "-n",
        "ebbgate",
        *arguments,
    ]
    return subprocess.run(
        [*command, "--values", "-"], input=json.dumps(values), capture_output=True, text=True, check=False
    )


def rendered(*arguments: str, **values: Any) -> list[Manifest]:
    done = run(*arguments, **values)
    assert not done.returncode, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [each for each in manifests if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def environment(workload: Manifest, name: str = "pod") -> dict[str, str]:
    """What its only container sees; what comes from the pod itself is `name`."""
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value", name) for each in container["env"]}


def test_lint() -> None:
    command = [str(apiserver.binary("helm")), "lint", "--strict", str(helm.CHART)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stdout
    assert "[WARNING]" not in done.stdout


def test_the_plain_manifest_is_what_the_chart_renders() -> None:
    """Without the CRD: `kubectl delete -f` would take it, and with it all policies."""
    whole = run(namespace={"create": True}, crds={"install": False})
    assert whole.stdout == MANIFEST.read_text(), "make manifest"


def test_rights_are_those_that_the_tests_of_rights_know() -> None:
    """tests/cluster/test_rights.py takes those of deploy/rbac.yaml away one by one, test_callout.py runs the
    usher under those of rbac-bus.yaml. Beside them there are only those of the hook, which go with it.
    """
    kinds = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")

    def essence(manifests: Iterable[Manifest]) -> list[Manifest]:
        chosen = [each for each in manifests if each["kind"] in kinds]
        for each in chosen:
            each["metadata"].pop("labels", None)
        return sorted(chosen, key=lambda each: json.dumps(each, sort_keys=True))

    known = [each for path in RIGHTS for each in essence(yaml.safe_load_all(path.read_text()))]
    found = essence(each for each in rendered() if "annotations" not in each["metadata"])
    assert found == essence(known)


def test_the_crd_is_that_of_deploy_and_is_kept() -> None:
    (crd,) = [each for each in rendered() if each["kind"] == "CustomResourceDefinition"]
    assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert crd["spec"] == yaml.safe_load(apiserver.CRD.read_text())["spec"]
    assert not [each for each in rendered(crds={"install": False}) if each["kind"] == crd["kind"]]


def test_images_are_those_that_are_made() -> None:
    found = {image for image in re.findall(r"image: (\S+)", run().stdout)}
    assert found == set(images.REFERENCES.values())
    digest = f"sha256:{'a' * 64}"
    assert f"ebbgate.io/ebbgate@{digest}" in run(image={"digest": digest}).stdout


def test_services_understand_what_they_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    found = rendered(
        resolver={"clusterCIDRs": ["10.0.0.0/8", "fd00::/8"]},
        nats={"replicas": 3},
        programmer={"port": 20000, "attach": "clsact", "direct": "off", "resyncSeconds": 5},
    )
    watcher = watcher_settings.parse_settings([], environment(named(found, "Deployment", "ebbgate-watcher")))
    assert (watcher.lease, watcher.terms.duration_s) == (("ebbgate", "ebbgate-watcher"), 15.0)
    assert (watcher.source, watcher.nats_replicas) == ("kubernetes", 3)
    resolver = resolver_settings.parse([], environment(named(found, "Deployment", "ebbgate-resolver")))
    assert (resolver.cluster_cidrs, resolver.nats_replicas) == (("10.0.0.0/8", "fd00::/8"), 3)
    for name, value in environment(named(found, "DaemonSet", "ebbgate-programmer"), "node.1").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EBBGATE_BPF_OBJECT", "object")
    programmer = programmer_settings.parse(["run"])
    assert (programmer.port, programmer.attach, programmer.direct) == (20000, "clsact", "off")
    assert (programmer.resync_s, programmer.proc_sys) == (5.0, pathlib.Path("/host/proc/sys"))
    assert (programmer.node, programmer.pin_path) == ("node.1", pathlib.Path("/sys/fs/bpf/ebbgate/node_1"))
    reach = access.Access(
        url="nats://ebbgate-nats.ebbgate.svc:4222",
        ca=pathlib.Path("/etc/ebbgate/ca/ca.crt"),
        token=pathlib.Path("/var/run/secrets/ebbgate/token"),
    )
    assert programmer.reach == reach
    assert watcher.reach == resolver.reach == reach


def test_a_nats_of_ones_own_is_reached_as_it_wants_to_be() -> None:
    found = rendered(nats={"urlSecret": "where", "credsSecret": "who", "tls": {"caSecret": "whose"}})
    assert not [each for each in found if "ebbgate-nats" in each["metadata"]["name"]]
    assert not [
        each for each in found if each["metadata"]["name"] in ("ebbgate-usher", "ebbgate-credentials")
    ]
    for kind, name in (
        ("Deployment", "ebbgate-watcher"),
        ("Deployment", "ebbgate-resolver"),
        ("Deployment", "ebbgate-cli"),
        ("DaemonSet", "ebbgate-programmer"),
    ):
        pod = named(found, kind, name)["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        (url,) = [each["valueFrom"] for each in container["env"] if each["name"] == "EBBGATE_NATS_URL"]
        assert url == {"secretKeyRef": {"name": "where", "key": "url"}}
        told = {each["name"]: each.get("value", "") for each in container["env"]}
        reach = access.chosen(*options(told))
        assert (reach.ca, reach.creds, reach.token) == (
            pathlib.Path("/etc/ebbgate/ca/ca.crt"),
            pathlib.Path("/etc/ebbgate/creds/nats.creds"),
            None,
        )
        secrets = {each["name"]: each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each}
        assert {
            secrets[mount["name"]]: mount["mountPath"]
            for mount in container["volumeMounts"]
            if mount["name"] in secrets
        } == {"whose": "/etc/ebbgate/ca", "who": "/etc/ebbgate/creds"}


def options(environment: Mapping[str, str]) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser()
    access.add_options(parser, environment)
    return parser, parser.parse_args([])


@pytest.mark.parametrize(
    ("wish", "kind", "bind"),
    [
        ({}, "", "127.0.0.1"),
        ({"podMonitor": ON}, "PodMonitor", ""),
        ({"serviceMonitor": ON}, "ServiceMonitor", ""),
    ],
)
def test_metrics_of_nodes_are_seen_from_outside_only_where_somebody_comes_for_them(
    wish: dict[str, Any], kind: str, bind: str
) -> None:
    found = rendered(monitoring=wish)
    assert environment(named(found, "DaemonSet", "ebbgate-programmer"))["EBBGATE_HEALTH_BIND"] == bind
    assert {each["kind"] for each in found if each["kind"].endswith("Monitor")} == {kind} - {""}


@pytest.mark.parametrize("replicas", [1, 3])
def test_nats_server_takes_its_configuration(tmp_path: pathlib.Path, replicas: int) -> None:
    wish = making.Wish(names=("localhost",), callout=True)
    asyncio.run(making.make(stores.Folder(tmp_path), wish, time.time()))
    text = named(rendered(nats={"replicas": replicas}), "ConfigMap", "ebbgate-nats")["data"][
        "nats-server.conf"
    ]
    config = tmp_path / "nats-server.conf"
    text = text.replace("/data", str(tmp_path)).replace("../ebbgate-nats-server", "server")
    config.write_text(text.replace("/etc/ebbgate-nats-server", str(tmp_path / "server")))
    command = [processes.nats_binary(), "-c", str(config), "-t"]
    done = subprocess.run(
        command, env={"POD_NAME": "ebbgate-nats-0"}, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    assert text.count("ebbgate-nats-servers.ebbgate.svc:6222") == (replicas if replicas > 1 else 0)


def test_cleaning_is_all_that_is_left() -> None:
    found = rendered(clean=True)
    kinds = {each["kind"] for each in found} - {"ConfigMap", "CustomResourceDefinition"}
    assert kinds == {"DaemonSet", "ServiceAccount"}
    pod = named(found, "DaemonSet", "ebbgate-programmer")["spec"]["template"]["spec"]
    assert pod["initContainers"][-1]["command"] == ["ebbgate-programmer", "clean"]


REFUSED: list[tuple[str, Mapping[str, Any]]] = [
    ("at '/watcher/replicas': minimum: got 0, want 1", {"watcher": {"replicas": 0}}),
    ("at '/nats/replicas': value must be one of 1, 3", {"nats": {"replicas": 2}}),
    ("at '/programmer': additional properties 'prot' not allowed", {"programmer": {"prot": 1}}),
    ("at '/programmer/port': maximum: got 70,000, want 65,535", {"programmer": {"port": 70000}}),
    ("at '/nats/url': 'http://nats' does not match pattern", {"nats": {"url": "http://nats"}}),
    (
        "at '/resolver/clusterCIDRs/0': '10.0.0.0' does not match",
        {"resolver": {"clusterCIDRs": ["10.0.0.0"]}},
    ),
    (
        "nats.url and nats.urlSecret: the bus is in one place",
        {"nats": {"url": "nats://a", "urlSecret": "b"}},
    ),
    (
        "nats.tls.enabled with a NATS of yours needs nats.tls.caSecret",
        {"nats": {"url": "nats://a", "tls": {"enabled": True}}},
    ),
    ("nats.image.repository needs nats.image.tag", {"nats": {"image": {"repository": "nats"}}}),
    ("nats.image.tag and nats.image.digest need", {"nats": {"image": {"tag": "2"}}}),
    ("nats.credsSecret is for a NATS of yours", {"nats": {"credsSecret": "c"}}),
    ("watcher.lease: durationSeconds must exceed", {"watcher": {"lease": {"durationSeconds": 5}}}),
    ("all would be scraped twice", {"monitoring": {"podMonitor": ON, "serviceMonitor": ON}}),
    ("at '/tracing/ratio': maximum: got 2, want 1", {"tracing": {"ratio": 2}}),
    ("additional properties 'runAsNonRoot' not allowed", {"podSecurityContext": {"runAsNonRoot": False}}),
]


@pytest.mark.parametrize(("words", "values"), REFUSED, ids=[words[:40] for words, _ in REFUSED])
def test_wrong_values_are_refused_by_name(words: str, values: Mapping[str, Any]) -> None:
    done = run(**values)
    assert done.returncode
    assert words in done.stderr


def test_an_old_kubernetes_is_refused_with_what_to_do() -> None:
    done = run("--kube-version", "1.29.0")
    assert done.returncode
    assert "the CRD needs 1.30 or newer" in done.stderr
    assert "crds.install=false" in done.stderr
    done = run("--kube-version", "1.29.0", crds={"install": False})
    assert "tokens name their pod's node from Kubernetes 1.30 on only" in done.stderr
    assert rendered("--kube-version", "1.29.0", crds={"install": False}, nats={"auth": {"enabled": False}})
    assert "kubeVersion: >=1.26.0-0" in run("--kube-version", "1.25.0").stderr


def test_every_value_is_described_and_every_description_has_a_value() -> None:
    values = yaml.safe_load((helm.CHART / "values.yaml").read_text())
    schema = json.loads((helm.CHART / "values.schema.json").read_text())
    del schema["properties"]["global"]

    def compare(schema: Mapping[str, Any], value: Any, path: str) -> None:
        assert schema.get("description"), f"{path} isn't described"
        if "properties" in schema:
            assert schema["additionalProperties"] is False, path
            assert sorted(schema["properties"]) == sorted(value), path
            for name, below in schema["properties"].items():
                compare(below, value[name], f"{path}.{name}")

    compare(schema, values, "")


def test_alerts_and_dashboards_are_those_that_are_tested() -> None:
    found = rendered(monitoring={"prometheusRule": {"enabled": True}, "dashboards": {"enabled": True}})
    alerts = yaml.safe_load((ROOT / "deploy/monitoring/alerts.yaml").read_text())
    assert named(found, "PrometheusRule", "ebbgate")["spec"] == alerts
    for path in (ROOT / "deploy/monitoring/dashboards").glob("*.json"):
        dashboard = named(found, "ConfigMap", path.stem)
        assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert json.loads(dashboard["data"][path.name]) == json.loads(path.read_text())


def test_versions_agree() -> None:
    chart = yaml.safe_load((helm.CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == images.VERSION
    assert f"ARG VERSION={images.VERSION}\n" in (images.RECIPES / "Containerfile").read_text()
    components = ROOT / "deploy/lab/components"
    modules = {"helm": "helm.sh/helm/v4", "nats": "github.com/nats-io/natscli"}
    for name, module in modules.items():
        version = re.search(rf"^{name}=(\S+)$", (components / "build").read_text(), re.MULTILINE)
        assert version
        assert f"\t{module} v{version[1]}" in (components / name / "go.mod").read_text()


def test_images_have_the_versions_that_are_tested() -> None:
    """Each line of their locks is one of requirements.lock."""
    tested = set(re.findall(r"^\S+==\S+", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    for name in (*images.REFERENCES, "build"):
        locked = set(re.findall(r"^\S+==\S+", (images.RECIPES / f"{name}.lock").read_text(), re.MULTILINE))
        assert locked, name
        assert locked <= tested, "make lock"
