"""The whole cluster: control plane, nodes, and a way in from this machine. A `sources.Source` of the lab's.

The network is the lab's topology; here begin the real parts. Everything that a node does is in its cgroup and
in its folder: `stop` and `remove` leave nothing of either.
"""

import pathlib
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Sequence

from ebbgate_lab import apiclient, apiserver, processes, sources, topology
from ebbgate_lab.cluster import cgroups, controlplane, image, kubectl, node

CONTROL = "control"
READY_WITHIN_S = 120.0
TOOLS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "unshare": "util-linux",
    "openssl": "openssl",
    "iptables": "iptables",
}
"""Program → Debian package: what the cluster needs beside what the lab does."""


class Cluster:
    """`network`: made before `start`; its hosts with a pod CIDR become nodes. The way in begins in the
    namespace in which the constructor is called. `images`: archives that all nodes have beside the pods'.
    `bare`: nothing of Ebbgate's is there yet; nodes have their images in memory, where many megabytes are
    written and removed sooner; and NetworkPolicies are enforced.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        network: topology.Topology,
        images: Sequence[pathlib.Path] = (),
        *,
        bare: bool = False,
    ) -> None:
        self._network = network
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        control = next(host for host in network.hosts if host.name == CONTROL)
        netns = f"{network.prefix}{CONTROL}"
        place = folder / CONTROL
        self.control = controlplane.ControlPlane(place, host=control.addresses[0], netns=netns, bare=bare)
        self._image = folder / "pod.tar"
        self._images = (self._image, *images)
        self._bare = bare
        hosts = [host for host in network.hosts if host.pod_cidr]
        self.nodes = {host.name: self._node(host) for host in hosts}
        self._entrance = socket.create_server(("127.0.0.1", 0))
        self._relay = self._way_in()
        self.kubectl = kubectl.Kubectl(folder / CONTROL / "admin.kubeconfig", netns)

    @property
    def servers(self) -> tuple[processes.Process, ...]:
        return (*self.control.servers, self._relay, *(each.process for each in self.nodes.values()))

    def start(self) -> None:
        """Returns when all nodes are Ready and pods may be made."""
        self._route_to_pods()
        image.make(self._image)
        self.control.start()
        for each in self.nodes.values():
            self.control.client.call("POST", apiserver.collection("v1", "Node"), each.manifest())
            each.start()
        self._relay.start()
        self.control.kubeconfig("admin")
        self.until_ready(*self.nodes)
        self._until(self._may_make_pods, "the namespace default has no service account")

    def kubeconfig(self, user: str = "admin", group: str = "system:masters") -> pathlib.Path:
        """For people on this machine, who come by the relay."""
        server = f"https://127.0.0.1:{self._entrance.getsockname()[1]}"
        return self.control.certified_kubeconfig(user, group, server=server)

    def stop(self) -> None:
        for process in reversed(self.servers):
            process.kill()
        self.control.client.close()
        self._entrance.close()
        cgroups.remove(self._network.prefix)

    def apply(self, manifest: sources.Manifest) -> int:
        return int(self.kubectl.apply(manifest)["metadata"].get("generation", 0))

    def delete(self, manifest: sources.Manifest) -> None:
        self.kubectl.delete(manifest)

    def watcher_arguments(self) -> list[str]:
        return self.control.watcher_arguments()

    def until_ready(self, *names: str, ready: bool = True) -> None:
        """Return once these nodes are Ready, or all of them are not."""
        what = "Ready" if ready else "not Ready"
        self._until(
            lambda: all(self._is_ready(name) is ready for name in names),
            f"{', '.join(names)}: not yet {what}",
        )

    def logs(self) -> Iterable[pathlib.Path]:
        yield from (process.log for process in self.control.servers)
        for each in self.nodes.values():
            yield from each.logs()

    def _node(self, host: topology.Host) -> node.Node:
        folder = self._folder / host.name
        prefix = self._network.prefix
        return node.Node(
            *(host, folder, self.control),
            prefix=prefix,
            images=self._images,
            volatile=self._bare,
            policed=self._bare,
        )

    def _way_in(self) -> processes.Process:
        listening = self._entrance.fileno()
        to = (self.control.host, str(self.control.port))
        command = processes.module("ebbgate_lab.cluster.relay", str(listening), *to)
        log = self._folder / "relay.log"
        return processes.Process("relay", command, log=log, netns=self.control.netns, inherits=[listening])

    def _route_to_pods(self) -> None:
        """The API server calls pods behind webhooks by their own addresses."""
        for each in self.nodes.values():
            by = ("via", each.host.addresses[0])
            self._network.run(CONTROL, "ip", "route", "replace", each.host.pod_cidr, *by)

    def _is_ready(self, name: str) -> bool:
        path = f"{apiserver.collection('v1', 'Node')}/{name}"
        conditions = self.control.client.call("GET", path).get("status", {}).get("conditions", [])
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    def _may_make_pods(self) -> bool:
        path = f"{apiserver.collection('v1', 'ServiceAccount', 'default')}/default"
        return self.control.client.request("GET", path)[0] == 200

    def _until(self, holds: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not apiclient.answers(holds):
            for process in self.servers:
                if process.died:
                    raise RuntimeError(f"{process.name} ended; its log is {process.log}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{complaint} after {READY_WITHIN_S:.0f} s; logs are in {self._folder}")
            time.sleep(0.1)


def missing() -> list[str]:
    """What a cluster needs and this machine lacks, a line each."""
    lacks = [
        f"{tool}: install the package {package}" for tool, package in TOOLS.items() if not shutil.which(tool)
    ]
    if not pathlib.Path("/usr/lib/cni/ptp").exists():
        lacks.append("/usr/lib/cni: install the package containernetworking-plugins")
    return lacks
