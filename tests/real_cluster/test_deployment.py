"""Ebbgate as a user installs it: its images, its chart, the real Helm and kubectl, on a cluster of its own;
and all that is done to an installation, while pods visit nginx without pause.

One story, told by the tests in their order: installed, restarted, drained, upgraded, uninstalled,
installed in another size, cleaned. What README and docs tell to type is typed as it stands there, by a
person outside of the cluster.
"""

import io
import json
import pathlib
import re
import subprocess
import tarfile
from collections.abc import Iterator

import pytest
import yaml

from ebbgate_lab import images, lab, processes, sample, webserver
from ebbgate_lab.cluster import helm
from ebbgate_lab.cluster import scene as scenes
from tests.docs import register, shell

from . import installation
from .installation import HELM_S, NAMESPACE
from .traffic import Traffic
from .visitors import EGRESS, GATEWAY

PREFIX = "ebrd-"
INSTALL = (NAMESPACE, str(helm.CHART), "--namespace", NAMESPACE, "--timeout", "120s")
CRD = "crd/ciliumegressgatewaypolicies.cilium.io"
WORKLOADS = (
    "deployment/ebbgate-watcher",
    "deployment/ebbgate-resolver",
    "deployment/ebbgate-usher",
    "statefulset/ebbgate-nats",
    "daemonset/ebbgate-programmer",
)
CHART = "ebbgate deploy/helm/ebbgate --namespace ebbgate"
NODES = (
    "networkPolicies.nodeCIDRs={10.168.60.0/24},networkPolicies.egress.enabled=true,"
    f"networkPolicies.egress.apiServerCIDRs={{{lab.CONTROL}/32}}"
)

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
        installation.make_volumes(scene, "node3", "first", "second")
        yield scene
    finally:
        scene.down()


@pytest.fixture(scope="module")
def traffic(scene: scenes.Scene) -> Traffic:
    return Traffic(sample.NAME, scene)


@pytest.fixture(scope="module")
def person(scene: scenes.Scene, tmp_path_factory: pytest.TempPathFactory) -> shell.Shell:
    """Has a kubeconfig and a checkout, and no other way into the cluster."""
    folder = tmp_path_factory.mktemp("person")
    (folder / "tmp").mkdir()
    environment = {"KUBECONFIG": str(scene.cluster.kubeconfig()), "EBBGATE_NATS_URL": "kubectl:"}
    return shell.Shell(
        register.LOOKED | register.DEPLOYED | register.NOTED,
        folder,
        environment=environment | {"TMPDIR": str(folder / "tmp")},
        programs=("helm", "kubectl", "nats"),
        words={"NAME": sample.NAME, "REGISTRY": images.REFERENCES["ebbgate"].partition("/")[0]},
    )


def test_it_is_installed_and_a_pod_leaves_with_the_egress_ip(
    scene: scenes.Scene, traffic: Traffic, person: shell.Shell
) -> None:
    person.type("kubectl create namespace ebbgate")
    person.type("kubectl label namespace ebbgate pod-security.kubernetes.io/enforce=privileged")
    person.type(register.INSTALL_PUSHED, more=f"--set {NODES}", within_s=HELM_S)
    traffic.begin(3)
    traffic.assert_none_lost_or_wrong()


def test_who_asks_from_outside_is_answered(
    scene: scenes.Scene, traffic: Traffic, person: shell.Shell
) -> None:
    """By a port that kubectl forwards, and with a token that it fetches; neither is there afterwards."""
    pod = scene.kubectl.get("pods", "-l", f"app={traffic.name}")["items"][0]
    words = {
        "kubectl get nodes -l …": {"…": f"node.kubernetes.io/name={GATEWAY}"},
        "kubectl -n ebbgate exec deploy/ebbgate-cli -- ebbgate …": {"…": "list"},
        "kubectl ebbgate …": {"…": "list --nats kubectl:ebbgate"},
        "ebbgate explain NAMESPACE/NAME DESTINATION": {
            "NAMESPACE/NAME": f"default/{pod['metadata']['name']}",
            "DESTINATION": "198.51.100.7",
        },
    }
    person.type_all(register.LOOKED, words=words)
    with tarfile.open(next(person.folder.glob("ebbgate-*.tar.gz"))) as report:
        (name,) = [name for name in report.getnames() if name.endswith("/logs/now.txt")]
        logs = (report.extractfile(name) or io.BytesIO()).read().decode()
    assert all(f"[pod/ebbgate-{part}-" in logs for part in ("watcher", "resolver", "programmer", "nats"))
    assert installation.forwarding(person) == []
    assert list((person.folder / "tmp").glob("ebbgate-*")) == []


def test_what_helm_says_can_be_typed(scene: scenes.Scene, person: shell.Shell) -> None:
    programmer = installation.programmers(scene)[0]
    words = {"NODE": GATEWAY, "POD-OF-THE-PROGRAMMER": programmer, "CHART": "deploy/helm/ebbgate"}
    installation.type_notes(scene, person, words)
    scene.kubectl.call("delete", "cegp", "try")


def test_who_listens_through_kubectl_needs_the_rights_of_the_page(
    scene: scenes.Scene, traffic: Traffic, tmp_path: pathlib.Path
) -> None:
    """docs/security.md; without them it is said what is missing."""
    listener = shell.Shell(
        register.LOOKED,
        tmp_path,
        environment={
            "KUBECONFIG": str(scene.cluster.kubeconfig("listener", "")),
            "EBBGATE_NATS_URL": "kubectl:",
        },
        programs=("kubectl",),
    )
    with pytest.raises(AssertionError, match="forbidden"):
        listener.type("ebbgate list")
    page = (helm.CHART.parents[2] / "docs" / "security.md").read_text()
    rules = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])["rules"]
    installation.allow(scene, "listener", rules)
    listener.type("ebbgate list")


def test_what_the_cluster_has_can_be_planned_elsewhere(person: shell.Shell) -> None:
    """As docs/migration.md begins."""
    person.type("kubectl get cegp -o yaml > policies.yaml")
    person.type("kubectl get nodes,namespaces,pods -A -o yaml", more="> objects.yaml")
    person.type("ebbgate plan", more=".")


def test_only_the_programmer_is_more_than_restricted(scene: scenes.Scene) -> None:
    """As the API server's own admission sees it, and as it is on a node."""
    found = installation.more_than_restricted(scene)
    assert found
    assert all(name.startswith("ebbgate-programmer") for name in found), found
    status = installation.in_programmer(scene, "cat", "/proc/1/status")
    fields = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 1 << 12 | 1 << 39
    assert (fields["NoNewPrivs"], fields["Seccomp"].strip()) == ("1", "2")


def test_its_own_tools_find_nothing_wrong(scene: scenes.Scene) -> None:
    listed = scene.kubectl.call(
        "-n", NAMESPACE, "exec", "deployment/ebbgate-cli", "--", "ebbgate", "list", "-o", "json"
    )
    assert {row["EgressIP"] for row in json.loads(listed)} == {EGRESS}
    found = json.loads(installation.in_programmer(scene, "ebbgate-programmer", "doctor", "-o", "json"))
    assert [each for each in found if each["severity"] == "problem"] == []


def test_nobody_is_let_onto_the_bus_without_saying_who_he_is(scene: scenes.Scene) -> None:
    options = ("-n", NAMESPACE, "exec", "deployment/ebbgate-cli", "--", "sh", "-c")
    scene.kubectl.call(*options, "ebbgate nodes")
    done = scene.kubectl.run(*options, "EBBGATE_NATS_TOKEN= ebbgate nodes")
    assert done.returncode
    assert "doesn't accept our credentials" in done.stderr, done.stderr
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


@pytest.mark.parametrize(
    ("name", "place", "port", "may"),
    [
        ("watcher", lab.CONTROL, 6443, True),
        ("watcher", webserver.ADDRESS, 80, False),
        ("usher", lab.CONTROL, 6443, True),
        ("resolver", "ebbgate-nats", 4222, True),
        ("resolver", lab.CONTROL, 6443, False),
        ("cli", "ebbgate-nats", 4222, True),
        ("cli", lab.CONTROL, 6443, False),
        ("nats", lab.CONTROL, 6443, False),
    ],
)
def test_each_calls_whom_it_needs_and_nobody_else(
    scene: scenes.Scene, name: str, place: str, port: int, may: bool
) -> None:
    """nginx outside is there for everybody else."""
    refusal = installation.called(scene, name, place, port)
    assert "Error" not in refusal if may else re.search("TimeoutError|refused", refusal), refusal


@pytest.mark.parametrize("workload", WORKLOADS)
def test_restarted_nothing_is_lost_or_wrong(scene: scenes.Scene, traffic: Traffic, workload: str) -> None:
    scene.kubectl.call("-n", NAMESPACE, "rollout", "restart", workload)
    scene.kubectl.call("-n", NAMESPACE, "rollout", "status", workload, "--timeout=50s")
    traffic.until_more()
    traffic.assert_none_lost_or_wrong()


def test_a_programmer_is_deleted(scene: scenes.Scene, traffic: Traffic, person: shell.Shell) -> None:
    name = installation.programmers(scene)[0]
    person.type("kubectl -n ebbgate delete pod …", words={"…": name})
    scene.kubectl.call("-n", NAMESPACE, "rollout", "status", WORKLOADS[-1], "--timeout=50s")
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


def test_upgraded(scene: scenes.Scene, traffic: Traffic, person: shell.Shell) -> None:
    """To the same, and by values that change all pods at once, with keys and certificates anew."""
    person.type(register.UPGRADE, within_s=HELM_S)
    before = installation.server_certificate(scene)
    changed = [f"{name}.podAnnotations.round=two" for name in ("watcher", "resolver", "programmer", "nats")]
    # Which the chart sets, too.
    changed += ["watcher.extraEnv[0].name=EBBGATE_LOG_FORMAT", "watcher.extraEnv[0].value=text"]
    person.type(
        "helm upgrade … --set credentials.rotate=true",
        words={"…": f"{CHART} --reuse-values --wait --set {','.join(changed)}"},
        within_s=HELM_S,
    )
    assert installation.server_certificate(scene) != before
    traffic.follow_a_change("192.0.2.0/24")
    traffic.until_more()
    traffic.assert_none_lost_or_wrong()


def test_a_second_one_is_refused(scene: scenes.Scene) -> None:
    done = scene.helm.run("install", "other", str(helm.CHART), "-n", "other", "--create-namespace")
    assert done.returncode
    assert "already, as release ebbgate in namespace ebbgate" in done.stderr
    assert scene.kubectl.run("-n", "other", "get", "deployments,daemonsets", "-o", "name").stdout == ""


@pytest.mark.parametrize(
    ("name", "was", "wanted"), [("replicas", "1", "3"), ("auth.enabled", "true", "false")]
)
def test_a_bus_of_another_kind_is_refused(scene: scenes.Scene, name: str, was: str, wanted: str) -> None:
    done = scene.helm.run("upgrade", *INSTALL, "--reuse-values", "--set", f"nats.{name}={wanted}")
    assert done.returncode
    assert f"nats.{name} is {was} in this release, and can't become {wanted}" in done.stderr


def test_uninstalled_policies_stay_and_nodes_go_on(
    scene: scenes.Scene, traffic: Traffic, person: shell.Shell
) -> None:
    installation.uninstall(scene, person)
    scene.kubectl.call("get", CRD, f"cegp/{traffic.name}")
    traffic.until_more()
    traffic.assert_none_lost_or_wrong()


def test_installed_again_with_three_servers(traffic: Traffic, person: shell.Shell) -> None:
    """An empty bus knows no gateway to be ready, until each has answered: dropped meanwhile, never wrong."""
    person.type("kubectl delete pvc -n ebbgate -l app.kubernetes.io/name=ebbgate", more="--dry-run=server")
    person.type("kubectl delete pvc -n ebbgate -l app.kubernetes.io/component=nats")
    person.type(
        register.INSTALL,
        more=f"--set nats.replicas=3,nats.storage.kind=emptyDir --set {NODES}",
        within_s=HELM_S,
    )
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
    scene: scenes.Scene, traffic: Traffic, person: shell.Shell, tmp_path: pathlib.Path
) -> None:
    """Outside of the cluster, with the accounts and the certificate that the chart's job made for it."""
    installation.uninstall(scene, person)
    bus = {"url": f"nats://{lab.CONTROL}:4222", "auth": {"enabled": True}, "tls": {"enabled": True}}
    values = {"nats": bus, "credentials": {"names": [lab.CONTROL]}}
    scene.helm.call("install", *INSTALL, "--set", NODES, values=values)
    for name, content in installation.secret(scene, "ebbgate-nats-server").items():
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
        installation.listen(scene, person)
        traffic.until_more()
        traffic.forgive()
        traffic.assert_none_lost_or_wrong()
    finally:
        server.kill()


def test_cleaned_nodes_are_as_they_were(scene: scenes.Scene, traffic: Traffic, person: shell.Shell) -> None:
    """All pods of Ebbgate are gone before; that the clean step was forgotten is no harm."""
    installation.uninstall(scene, person)
    person.type("helm install … --set clean=true --wait", words={"…": CHART}, within_s=HELM_S)
    installation.assert_clean(scene, traffic)
    installation.uninstall(scene, person)


def test_installed_once_more_and_cleaned_before_it_goes(
    scene: scenes.Scene, traffic: Traffic, person: shell.Shell
) -> None:
    """On nodes on which nobody mounts a BPF file system: the chart does."""
    for name in scene.cluster.nodes:
        (scene.folder / "cluster" / name / "kubelet" / "bpffs").mkdir()
    place = "programmer.bpffs.path=/var/lib/kubelet/bpffs"
    more = f"--set nats.storage.kind=emptyDir,programmer.maxUnavailable=100%,{place}"
    person.type(register.INSTALL_ON_KIND, more=more, within_s=HELM_S)
    traffic.until_more()
    assert "ebbgate" in installation.in_programmer(scene, "ls", "/sys/fs/bpf").split()
    person.type(register.CLEAN, within_s=HELM_S)
    installation.type_notes(scene, person, {})
    installation.assert_clean(scene, traffic)
    installation.uninstall(scene, person)
    person.type("kubectl delete secret -n ebbgate -l app.kubernetes.io/part-of=ebbgate")
    person.type("kubectl delete lease -n ebbgate ebbgate-watcher")


def test_without_helm_by_the_plain_manifest(
    scene: scenes.Scene, traffic: Traffic, person: shell.Shell
) -> None:
    """Taken away again, policies are still there."""
    person.type(register.APPLY_CRD)
    person.type(register.APPLY, more="--force-conflicts")
    traffic.follow_a_change("198.51.100.64/26")
    traffic.until_more()
    person.type("kubectl delete -f deploy/ebbgate.yaml", more="--wait=false")
    scene.kubectl.call("get", CRD, f"cegp/{traffic.name}")


def test_all_was_typed_that_the_pages_tell(person: shell.Shell) -> None:
    assert person.typed == set(person.commands)
