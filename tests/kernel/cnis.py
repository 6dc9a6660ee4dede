"""Ways in which a CNI ties pods to a node, and makes their traffic leave: laid over the lab's own.

The lab gives each pod a cable with an address of the node's on it, and masquerades in an nftables table of
its own. Each function here makes one node do it otherwise, in both families.
"""

from ebbgate_lab import topology

Lab = topology.Topology
_PODS = (("iptables", topology.POD_NETWORK), ("ip6tables", topology.POD_NETWORK6))


def cables(lab: Lab, node: str) -> None:
    """As the lab has them: the node's end has an address."""


def bare_cables(lab: Lab, node: str) -> None:
    """As Calico has them: the node's end has no address, and answers for a next hop that nobody has."""
    for pod in _pods(lab, node):
        end = f"veth-{pod.name}"
        lab.run(node, "ip", "addr", "flush", "dev", end, "scope", "global")
        lab.run(node, "sysctl", "-qw", f"net.ipv4.conf.{end}.proxy_arp=1", f"net.ipv6.conf.{end}.proxy_ndp=1")
        for address in (f"{pod.address}/32", f"{topology.twin(pod.address)}/128"):
            lab.run(node, "ip", "route", "replace", address, "dev", end)
        link_local = lab.run(node, "ip", "-6", "-o", "addr", "show", "dev", end, "scope", "link").split()[3]
        lab.run(pod.name, "ip", "route", "replace", "169.254.1.1", "dev", "eth0", "scope", "link")
        lab.run(pod.name, "ip", "route", "replace", "default", "via", "169.254.1.1", "dev", "eth0")
        hop = link_local.split("/")[0]
        lab.run(pod.name, "ip", "-6", "route", "replace", "default", "via", hop, "dev", "eth0")


def bridge(lab: Lab, node: str) -> None:
    """All pods on one bridge that has the node's address; bridged packets don't meet netfilter."""
    _bridge(lab, node, filtered=0)


def filtered_bridge(lab: Lab, node: str) -> None:
    """The same, and bridged packets meet netfilter's IP hooks too (br_netfilter, as kube-proxy wants it)."""
    _bridge(lab, node, filtered=1)


def _bridge(lab: Lab, node: str, *, filtered: int) -> None:
    pods = _pods(lab, node)
    router = topology.router_of(pods[0])
    lab.run(node, "ip", "link", "add", "cni0", "type", "bridge", "forward_delay", "0")
    lab.run(node, "ip", "addr", "add", f"{router}/24", "dev", "cni0")
    lab.run(node, "ip", "addr", "add", f"{topology.twin(router)}/64", "dev", "cni0", "nodad")
    lab.run(node, "ip", "link", "set", "cni0", "up")
    for pod in pods:
        end = f"veth-{pod.name}"
        lab.run(node, "ip", "addr", "flush", "dev", end)
        for address in (f"{pod.address}/32", f"{topology.twin(pod.address)}/128"):
            lab.run(node, "ip", "route", "del", address, "dev", end, check=False)  # gone with the address
        lab.run(node, "ip", "link", "set", end, "master", "cni0")
    names = [f"net.bridge.bridge-nf-call-{tool}={filtered}" for tool in ("iptables", "ip6tables")]
    lab.run(node, "sysctl", "-qw", *names)


def _pods(lab: Lab, node: str) -> list[topology.Pod]:
    return [pod for pod in lab.pods if pod.node == node]


def nft(lab: Lab, node: str) -> None:
    """As the lab has it: at the usual priority, after ours."""


def nft_early(lab: Lab, node: str) -> None:
    """As early as nftables lets a nat chain be, right behind ours."""
    text = topology.CNI_TABLE.replace("priority srcnat", "priority -198")
    lab.run(node, "nft", "delete table ip cni; delete table ip6 cni")
    lab.run(node, "nft", "-f", "-", text=text)


def iptables_nft(lab: Lab, node: str) -> None:
    _iptables(lab, node, "nft")


def iptables_legacy(lab: Lab, node: str) -> None:
    _iptables(lab, node, "legacy")


def _iptables(lab: Lab, node: str, kind: str) -> None:
    lab.run(node, "nft", "delete table ip cni; delete table ip6 cni")
    for tool, pods in _PODS:
        rule = ("-s", pods, "!", "-d", pods, "-j", "MASQUERADE")
        lab.run(node, f"{tool}-{kind}", "-t", "nat", "-A", "POSTROUTING", *rule)


ATTACHMENTS = (cables, bare_cables, bridge, filtered_bridge)
MASQUERADES = (nft, nft_early, iptables_nft, iptables_legacy)
