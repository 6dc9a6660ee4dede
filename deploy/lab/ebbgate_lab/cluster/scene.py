"""The lab on a real cluster: nodes are kubelets', pods are containers, and curl runs in them by kubectl.

Ebbgate's own processes run where they do in the lab: watcher, resolver and nats-server beside the control
plane, a programmer in the network of each node.
"""

import pathlib
import subprocess
from collections.abc import Sequence

from ebbgate_lab import lab, sources, topology, webserver
from ebbgate_lab.cluster import cgroups, cluster, helm, image

HOSTS = (
    *topology.HOSTS,
    topology.Host("node3", ("10.168.60.14",), "10.244.3.0/24"),
)
PODS_WITHIN = "60s"


class Scene(lab.Lab):
    """Names as those of `lab.Lab`. Its source is the cluster, and starts with it.

    `images`: archives for its nodes. `bare`: nothing of Ebbgate's, not even the CRD, is on it from the start.
    """

    def __init__(
        self,
        *,
        prefix: str = "ebc-",
        folder: pathlib.Path | None = None,
        outlive: bool = False,
        images: Sequence[pathlib.Path] = (),
        bare: bool = False,
    ) -> None:
        network = topology.Topology(prefix, HOSTS, (), masquerade=False)
        super().__init__(prefix=prefix, folder=folder, outlive=outlive, network=network)
        self.cluster = cluster.Cluster(self.folder / "cluster", network, images, bare=bare)
        self.kubectl = self.cluster.kubectl
        self.source = self.cluster
        self.helm = helm.Helm(
            self.folder / "cluster" / cluster.CONTROL / "admin.kubeconfig", self.netns("control")
        )

    @property
    def introduction(self) -> str:
        what = "A real cluster: control plane, three kubelets, pods in containers; and nginx outside"
        return f"[bold]{what}[/], all on this machine"

    def said_of_pods(self) -> list[str]:
        shown = self.kubectl.call("get", "pods", "-o", "wide").splitlines()
        # Its last two columns are <none> for all pods here.
        return [
            "$ kubectl get pods -o wide",
            *(line.split("NOMINATED")[0].split("<none>")[0] for line in shown),
        ]

    def to_try(self) -> list[str]:
        curl = f"curl -sS http://{webserver.ADDRESS}/hello"
        run = f"{self.kubectl.program} run visitor --image={image.REFERENCE} --image-pull-policy=Never"
        return [
            f"export KUBECONFIG={self.cluster.kubeconfig()}",
            f"{self.kubectl.program} get nodes,pods -o wide",
            run,
            f"{self.kubectl.program} exec visitor -- {curl}",
        ]

    def install(self, objects: Sequence[sources.Manifest] | None = None) -> None:
        """`objects`: the usual pods, if left out; those of them that are pods are Ready afterwards."""
        super().install(sources.manifests("cluster-pods.yaml") if objects is None else objects)
        if self.kubectl.get("pods")["items"]:
            self.kubectl.call("wait", "--for=condition=Ready", "pod", "--all", f"--timeout={PODS_WITHIN}")

    def netns(self, name: str) -> str:
        """Of a host by its name; of a pod by its processes: only they know it."""
        if name in self.topology.names:
            return super().netns(name)
        uid = self.kubectl.get("pod", name)["metadata"]["uid"]
        return f"/proc/{cgroups.member(self.prefix, f'pod{uid}')}/ns/net"

    def address(self, pod: str) -> str:
        return str(self.kubectl.get("pod", pod)["status"]["podIP"])

    def curl(self, pod: str, path: str, *, ipv6: bool = False) -> subprocess.CompletedProcess[str]:
        assert not ipv6, "the cluster's pods have IPv4 only"
        url = f"http://{webserver.ADDRESS}{path}"
        return self.kubectl.run("exec", pod, "--", "curl", "-sS", "--max-time", "2", url)

    def kill_node(self, name: str) -> None:
        """Cut its power: its programs, pods, network and pinned BPF objects are gone at once."""
        self.processes[f"programmer-{name}"].kill()
        self.cluster.nodes[name].kill()
        self.topology.cut(name)
        lab.remove_pins(self.pin_path(name))

    def start_node(self, name: str) -> None:
        """Switch it on again; the Node is Ready later."""
        self.topology.join(name)
        self.cluster.nodes[name].start()
        self.start(f"programmer-{name}")

    def log_tail(self, lines: int = 8) -> str:
        ends = [
            "\n".join([f"--- {path.parent.name}/{path.name}", *path.read_text().splitlines()[-lines:]])
            for path in self.cluster.logs()
            if path.exists()
        ]
        return "\n".join([super().log_tail(lines), *ends])

    def remove(self) -> None:
        cgroups.remove(self.prefix)
        super().remove()
