"""One node, seen from outside: its files, its start, its death."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ebbgate_lab import apiserver, processes, topology
from ebbgate_lab.cluster import authority, cgroups, configuration, controlplane

NAMESPACES = ("--mount", "--uts", "--ipc", "--pid")


class Node:
    """`folder`: everything that the node writes, over restarts. `images`: archives to import.
    `volatile`: what these become is in memory, and gone with its power. `policed`: NetworkPolicies count."""

    def __init__(
        self,
        host: topology.Host,
        folder: pathlib.Path,
        control: controlplane.ControlPlane,
        *,
        prefix: str,
        images: Sequence[pathlib.Path],
        volatile: bool = False,
        policed: bool = False,
    ) -> None:
        self.name = host.name
        self.host = host
        self._folder = folder
        self._control = control
        self._cgroup = f"{prefix}{host.name}"
        self._images = images
        self._volatile = volatile
        self._policed = policed
        # With `unshare` its child, PID 1, is killed, and with that all of the node.
        unshare = ["unshare", *NAMESPACES, "--fork", "--kill-child"]
        command = [*unshare, *processes.module("ebbgate_lab.cluster.inside", str(folder))]
        log = folder.with_suffix(".log")
        self.process = processes.Process(host.name, command, log=log, netns=f"{prefix}{host.name}")

    def start(self) -> None:
        """Returns at once; the Node is Ready later, at its API server."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._write("kubelet.json", configuration.kubelet(self._cgroup, self._files(), self._control.host))
        proxy = controlplane.PROXY
        kubeconfig = str(self._control.certified_kubeconfig(proxy))
        self._write("kube-proxy.json", configuration.kube_proxy(self.name, kubeconfig))
        self._write("cni.json", configuration.cni(self.host.pod_cidr))
        (self._folder / "containerd.toml").write_text(configuration.containerd())
        self._write("node.json", self._told())
        cgroups.ensure(self._cgroup)
        self.process.start()

    def kill(self) -> None:
        """As if its power were cut: no program of it, no pod, no mount is left; its disk is."""
        self.process.kill()
        cgroups.remove(self._cgroup)

    def manifest(self) -> dict[str, Any]:
        """The Node as it is registered before its kubelet comes, so that it has its own pod CIDR."""
        labels = {"node.kubernetes.io/name": self.name, "kubernetes.io/hostname": self.name}
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": labels},
            "spec": {"podCIDR": self.host.pod_cidr, "podCIDRs": [self.host.pod_cidr]},
        }

    def logs(self) -> list[pathlib.Path]:
        return [self.process.log, *sorted(self._folder.glob("*.log"))]

    def _told(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "cgroup": self._cgroup,
            "volatile": self._volatile,
            "images": [str(archive) for archive in self._images],
            "socket": configuration.CONTAINERD_SOCKET,
            "programs": self._programs(),
        }

    def _programs(self) -> dict[str, list[str]]:
        user = self._control.certified_kubeconfig(f"system:node:{self.name}", "system:nodes")
        kubelet = [
            *(str(apiserver.binary("kubelet")), f"--config={self._folder / 'kubelet.json'}"),
            *(f"--kubeconfig={user}", f"--hostname-override={self.name}"),
            f"--node-ip={self.host.addresses[0]}",
        ]
        proxy = [str(apiserver.binary("kube-proxy")), f"--config={self._folder / 'kube-proxy.json'}"]
        containerd = ["containerd", "--config", str(self._folder / "containerd.toml")]
        programs = {"containerd": containerd, "kubelet": kubelet, "kube-proxy": proxy}
        return programs | {"kube-router": self._policing()} if self._policed else programs

    def _policing(self) -> list[str]:
        """Of kube-router only its firewall."""
        user = self._control.certified_kubeconfig(f"kube-router-{self.name}", "system:masters")
        return [
            *(
                str(apiserver.binary("kube-router")),
                f"--kubeconfig={user}",
                f"--hostname-override={self.name}",
            ),
            *("--run-firewall=true", "--run-router=false", "--run-service-proxy=false", "--enable-cni=false"),
            f"--service-cluster-ip-range={apiserver.SERVICE_CIDR}",
        ]

    def _files(self) -> configuration.Files:
        signer = self._control.authority
        certificate = signer.server(self.name, self.host.addresses, [self.name])
        key, trusted = authority.key_of(certificate), signer.certificate
        return configuration.Files(str(certificate), str(key), str(trusted))

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        (self._folder / name).write_text(json.dumps(content, indent=1))
