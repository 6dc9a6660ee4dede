"""What a node's programs are told: kubelet, containerd, kube-proxy, the CNI plugins. Pure: texts from facts.

Paths are those that a node sees, whose /etc, /opt and /var/lib are its own (`inside.py`).
"""

import dataclasses
import ipaddress
from typing import Any

from ebbgate_lab import topology
from ebbgate_lab.cluster import dns, image

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
HEARTBEAT_S = 4
"""A node's lease is renewed each quarter of it, so that a dead node is noticed in seconds."""


@dataclasses.dataclass(frozen=True)
class Files:
    """Of one node's kubelet: certificate and key to listen with, authority of its clients."""

    certificate: str
    key: str
    authority: str


def kubelet(cgroup: str, files: Files, nameserver: str) -> dict[str, Any]:
    """`cgroup`: the node's; pods are put below it. `nameserver`: whom pods ask for names."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": files.authority},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": files.certificate,
        "tlsPrivateKeyFile": files.key,
        "resolvConf": "",
        "clusterDNS": [nameserver],
        "clusterDomain": dns.DOMAIN,
        "nodeStatusUpdateFrequency": "1s",
        "nodeLeaseDurationSeconds": HEARTBEAT_S,
        "syncFrequency": "5s",
        # The disk belongs to somebody else: how full it is must not evict anybody. 0 is refused for memory.
        "evictionHard": {"memory.available": "10Mi"}
        | dict.fromkeys(("nodefs.available", "nodefs.inodesFree", "imagefs.available"), "0%"),
        "imageGCHighThresholdPercent": 100,
        # Its usual place is in /usr, which a node shares with the machine.
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    }


def containerd() -> str:
    """Runs as root without CAP_SYS_RESOURCE, too: then it can't lower a process's oom_score_adj."""
    return f"""
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image.REFERENCE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def kube_proxy(node: str, kubeconfig: str) -> dict[str, Any]:
    """Conntrack's limits are the machine's: left alone."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": node,
        "clusterCIDR": topology.POD_NETWORK,
        "clientConnection": {"kubeconfig": kubeconfig},
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }


def cni(pod_cidr: str) -> dict[str, Any]:
    """Pods on cables; what leaves the cluster is masqueraded as the node.

    The plugin masquerades what leaves `subnet`, so that is all pods' network, and the node has a range of it.
    """
    node = ipaddress.IPv4Network(pod_cidr)
    part = {"rangeStart": str(node[2]), "rangeEnd": str(node[-2]), "gateway": str(node[1])}
    ranges = [[{"subnet": topology.POD_NETWORK, **part}]]
    addresses = {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}
    return {
        "cniVersion": "1.0.0",
        "name": "lab",
        "plugins": [
            {"type": "ptp", "ipMasq": True, "ipam": addresses},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
