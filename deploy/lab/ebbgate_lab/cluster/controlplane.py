"""The control plane: etcd, kube-apiserver, controller-manager and scheduler, as a real installation has them;
and DNS.

The API server is the tests' (`apiserver.py`), with certificates, the Node authorizer and all admission on.
"""

import json
import pathlib

from ebbgate_lab import apiserver, processes, topology
from ebbgate_lab.cluster import authority, configuration

PORTS = (6443, 2379, 2380)
PROXY = "system:kube-proxy"
CONTROLLER_MANAGER, SCHEDULER = "kube-controller-manager", "kube-scheduler"
SERVICE_ADDRESS = "10.96.0.1"
"""Of the Service `kubernetes`: the first of SERVICE_CIDR."""
NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
GRACE_S = 2 * configuration.HEARTBEAT_S
"""A node that is silent for so long isn't Ready any more; Kubernetes' own default is 50 s."""


class ControlPlane(apiserver.ApiServer):
    """`host`: its address in the namespace `netns`. `bare`: nothing of Ebbgate's is there yet."""

    def __init__(self, folder: pathlib.Path, *, host: str, netns: str, bare: bool = False) -> None:
        self.authority = authority.Authority(folder / "authority")
        flags = _flags(self.authority, host)
        trusted = self.authority.certificate
        self._bare = bare
        super().__init__(folder, host=host, ports=PORTS, netns=netns, flags=flags, authority=trusted)
        self.controllers = [self._controller_manager(), self._scheduler(), self._dns()]

    @property
    def servers(self) -> tuple[processes.Process, ...]:
        return (*super().servers, *self.controllers)

    def start(self) -> None:
        super().start()
        for controller in self.controllers:
            controller.start()

    def furnish(self) -> None:
        if not self._bare:
            super().furnish()

    def stop(self) -> None:
        for controller in self.controllers:
            controller.stop()
        super().stop()

    def certified_kubeconfig(self, user: str, group: str = "", *, server: str = "") -> pathlib.Path:
        """A kubeconfig by client certificate, of a user whom Kubernetes' own roles know.

        `server`: another URL than the usual one.
        """
        certificate = self.authority.client(user, group)
        credentials = {
            "client-certificate": str(certificate),
            "client-key": str(authority.key_of(certificate)),
        }
        path = self._folder / f"{certificate.stem}.kubeconfig"
        trusted = self.authority.certificate
        apiserver.write_kubeconfig(path, user, credentials, server=server or self.url, authority=trusted)
        return path

    def _controller_manager(self) -> processes.Process:
        return self._controller(
            CONTROLLER_MANAGER,
            f"--service-account-private-key-file={self.service_account_key}",
            f"--root-ca-file={self.authority.certificate}",
            "--use-service-account-credentials=true",
            # Nodes are registered with their pod CIDRs: node1's is to be the same each time.
            "--allocate-node-cidrs=false",
            f"--cluster-cidr={topology.POD_NETWORK}",
            "--node-monitor-period=1s",
            f"--node-monitor-grace-period={GRACE_S}s",
        )

    def _dns(self) -> processes.Process:
        told = {"host": self.host, "port": self.port, "token": self._tokens["admin"]}
        (self._folder / "dns.json").write_text(
            json.dumps(told | {"authority": str(self.authority.certificate)})
        )
        command = processes.module("ebbgate_lab.cluster.dns", str(self._folder))
        return processes.Process("dns", command, log=self._folder / "dns.log", netns=self.netns)

    def _scheduler(self) -> processes.Process:
        return self._controller(SCHEDULER)

    def _controller(self, name: str, *options: str) -> processes.Process:
        kubeconfig = self.certified_kubeconfig(f"system:{name}")
        arguments = [str(apiserver.binary(name)), f"--kubeconfig={kubeconfig}", "--leader-elect=false"]
        arguments += ["--bind-address=127.0.0.1", *options]
        return processes.Process(name, arguments, log=self._folder / f"{name}.log", netns=self.netns)


def _flags(signer: authority.Authority, host: str) -> dict[str, str]:
    """Of kube-apiserver, where they differ from those of a server without nodes."""
    serving = signer.server("kube-apiserver", (host, SERVICE_ADDRESS, "127.0.0.1"), NAMES)
    to_kubelets = signer.client("kube-apiserver-kubelet-client", "system:masters")
    return {
        "advertise-address": host,
        "endpoint-reconciler-type": "lease",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "disable-admission-plugins": "",
        "allow-privileged": "true",
        "client-ca-file": str(signer.certificate),
        "tls-cert-file": str(serving),
        "tls-private-key-file": str(authority.key_of(serving)),
        "kubelet-client-certificate": str(to_kubelets),
        "kubelet-client-key": str(authority.key_of(to_kubelets)),
        "kubelet-certificate-authority": str(signer.certificate),
        "kubelet-preferred-address-types": "InternalIP",
    }
