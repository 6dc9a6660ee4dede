"""Two nodes, their pods, a control host and an external host, as network namespaces joined by a bridge.

Dual stack: every address has an IPv6 twin (`twin`). Each node does what a CNI does: routes to pods, and
masquerades pod traffic that leaves the cluster, with nftables tables of its own. The external host
has no way back to pods, so a packet that left unmasqueraded is lost, and is counted there as a leak.
Everything is named with a prefix, so that two labs can stand side by side, and `remove` also removes what a
crashed run left. It must never touch the machine's own network.
"""

import contextlib
import dataclasses
import ipaddress
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence

from ebbgate_lab import namespaces

POD_NETWORK = "10.244.0.0/16"
UNDERLAY = "underlay"
ROUTER = "10.168.60.1"
NETNS = pathlib.Path("/run/netns")

POD_NETWORK6 = "fd00:10:244::/48"


def twin(address: str) -> str:
    """The IPv6 address beside an IPv4 one: 10.244.1.10 and fd00:10:244:1::10."""
    *network, host = address.split(".")
    return str(ipaddress.IPv6Address(f"fd00:{':'.join(network)}::{host}"))


CNI_TABLE = "".join(
    f"""
table {family} cni {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    {family} saddr {pods} {family} daddr != {pods} masquerade
  }}
}}
"""
    for family, pods in (("ip", POD_NETWORK), ("ip6", POD_NETWORK6))
)
WITNESS_TABLE = "".join(
    f"""
table {family} witness {{
  counter leaks {{ }}
  chain prerouting {{
    type filter hook prerouting priority raw; policy accept;
    {family} saddr {pods} counter name leaks
  }}
}}
"""
    for family, pods in (("ip", POD_NETWORK), ("ip6", POD_NETWORK6))
)


@dataclasses.dataclass(frozen=True)
class Host:
    """A namespace on the underlay. `pod_cidr`: empty if it isn't a node."""

    name: str
    addresses: tuple[str, ...]
    pod_cidr: str = ""


@dataclasses.dataclass(frozen=True)
class Pod:
    name: str
    node: str
    address: str


HOSTS = (
    Host("control", ("10.168.60.10",)),
    Host("node1", ("10.168.60.11",), "10.244.1.0/24"),
    Host("node2", ("10.168.60.12", "10.168.60.100"), "10.244.2.0/24"),
    Host("external", ("10.168.60.13",)),
)
PODS = (
    Pod("mediabot", "node1", "10.244.1.10"),
    Pod("xwing", "node1", "10.244.1.11"),
    Pod("gozanti", "node2", "10.244.2.10"),
)


class Topology:
    """`prefix`: of the namespaces' names; at most what leaves them readable. `masquerade`: not where a real
    CNI does it.
    """

    def __init__(
        self,
        prefix: str = "ebb-",
        hosts: Sequence[Host] = HOSTS,
        pods: Sequence[Pod] = PODS,
        *,
        masquerade: bool = True,
    ) -> None:
        self.prefix = prefix
        self.hosts = tuple(hosts)
        self._masquerade = masquerade
        self.pods = tuple(pods)

    @property
    def names(self) -> tuple[str, ...]:
        return (UNDERLAY, *(host.name for host in self.hosts), *(pod.name for pod in self.pods))

    def path(self, name: str) -> pathlib.Path:
        """The namespace's file: what `nsenter --net=` takes."""
        return NETNS / f"{self.prefix}{name}"

    def inside(self, name: str, *argv: str) -> tuple[str, ...]:
        """The command that runs `argv` there. `ip netns exec` isn't used: it hides bpffs."""
        return ("nsenter", f"--net={self.path(name)}", *argv)

    def run(self, name: str, *argv: str, text: str | None = None, check: bool = True) -> str:
        """The standard output of `argv` run there; `text` is its standard input."""
        done = subprocess.run(
            self.inside(name, *argv), input=text, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(argv)} in {name}: {done.stderr.strip() or done.returncode}")
        return done.stdout

    @contextlib.contextmanager
    def entered(self, name: str) -> Iterator[None]:
        """The calling thread stands in that namespace meanwhile: sockets it opens belong there and stay."""
        with namespaces.entered(f"{self.prefix}{name}"):
            yield

    def make(self) -> None:
        """All of it; what an earlier run left is removed first."""
        self.remove()
        _batch([f"netns add {self.prefix}{name}" for name in self.names])
        for name in self.names:
            self._settle(name)
        self._batch_in(UNDERLAY, [*_bridge(), *(line for host in self.hosts for line in self._cable(host))])
        for host in self.hosts:
            self._batch_in(host.name, _host_lines(host, self.hosts))
        for pod in self.pods:
            self._batch_in(pod.node, self._pod_lines(pod))
            self._batch_in(pod.name, _inside_pod(pod))
        for host in self.hosts:
            self._masquerade_at(host)
        if any(host.name == "external" for host in self.hosts):
            self.run("external", "nft", "-f", "-", text=WITNESS_TABLE)

    def remove(self) -> None:
        """Absent afterwards, whatever was there. Processes inside are the caller's to end."""
        for name in self.names:
            if self.path(name).exists():
                subprocess.run(["ip", "netns", "del", f"{self.prefix}{name}"], check=True)

    def cut(self, name: str) -> None:
        """Take a host away with its cable and all its kernel held, as a loss of power does."""
        self._batch_in(UNDERLAY, [f"link del {name}"])
        subprocess.run(["ip", "netns", "del", f"{self.prefix}{name}"], check=True)

    def join(self, name: str) -> None:
        """Bring back a host that was cut, as new."""
        host = next(each for each in self.hosts if each.name == name)
        _batch([f"netns add {self.prefix}{name}"])
        self._settle(name)
        self._batch_in(UNDERLAY, self._cable(host))
        self._batch_in(name, _host_lines(host, self.hosts))
        self._masquerade_at(host)

    def leaks(self) -> int:
        """Packets that reached the external host with a pod's own address."""
        listings = (
            self.run("external", "nft", "list", "counter", family, "witness", "leaks")
            for family in ("ip", "ip6")
        )
        return sum(int(listing.split("packets", 1)[1].split()[0]) for listing in listings)

    def _masquerade_at(self, host: Host) -> None:
        if host.pod_cidr and self._masquerade:
            self.run(host.name, "nft", "-f", "-", text=CNI_TABLE)

    def _settle(self, name: str) -> None:
        """Forwarding as on a node; IPv6 addresses are there at once, without a second of "tentative"."""
        forward = int(any(host.name == name and host.pod_cidr for host in self.hosts))
        settings = [f"net.ipv4.ip_forward={forward}", "net.ipv4.conf.all.rp_filter=0"]
        settings += ["net.ipv6.conf.default.accept_dad=0", f"net.ipv6.conf.all.forwarding={forward}"]
        self.run(name, "sysctl", "-qw", *settings)
        self._batch_in(name, ["link set lo up"])

    def _cable(self, host: Host) -> list[str]:
        return [
            f"link add {host.name} type veth peer name eth0 netns {self.prefix}{host.name}",
            f"link set {host.name} master bridge0 up",
        ]

    def _pod_lines(self, pod: Pod) -> list[str]:
        device = f"veth-{pod.name}"[:15]
        return [
            f"link add {device} type veth peer name eth0 netns {self.prefix}{pod.name}",
            f"addr add {router_of(pod)}/32 dev {device}",
            f"addr add {twin(router_of(pod))}/128 dev {device} nodad",
            f"link set {device} up",
            f"route add {pod.address}/32 dev {device}",
            f"route add {twin(pod.address)}/128 dev {device}",
        ]

    def _batch_in(self, name: str, lines: Sequence[str]) -> None:
        _batch(lines, "-n", f"{self.prefix}{name}")


def missing_tools() -> list[str]:
    """Programs the lab needs and the machine lacks, and the lack of privilege, in words."""
    tools = [name for name in ("ip", "nsenter", "nft", "sysctl") if not shutil.which(name)]
    return tools if os.geteuid() == 0 else [*tools, "root"]


def _batch(lines: Sequence[str], *options: str) -> None:
    done = subprocess.run(
        ["ip", *options, "-batch", "-"], input="\n".join(lines), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(options)}: {done.stderr.strip()}")


def _bridge() -> list[str]:
    # A spanning tree would hold each port back for 30 s; without one the bridge forwards at once.
    return [
        "link add bridge0 type bridge forward_delay 0 stp_state 0",
        f"addr add {ROUTER}/24 dev bridge0",
        f"addr add {twin(ROUTER)}/64 dev bridge0 nodad",
        "link set bridge0 up",
    ]


def _host_lines(host: Host, hosts: Sequence[Host]) -> list[str]:
    lines = [f"addr add {address}/24 dev eth0" for address in host.addresses]
    # The kernel puts the newest IPv6 address first; the first of ours is to be the first.
    lines += [f"addr add {twin(address)}/64 dev eth0 nodad" for address in reversed(host.addresses)]
    lines.append("link set eth0 up")
    if host.pod_cidr:
        lines += [f"route add default via {ROUTER}", f"route add default via {twin(ROUTER)}"]
        for other in hosts:
            if other.pod_cidr and other is not host:
                lines.append(f"route add {other.pod_cidr} via {other.addresses[0]}")
                lines.append(f"route add {twin_cidr(other.pod_cidr)} via {twin(other.addresses[0])}")
    return lines


def twin_cidr(cidr: str) -> str:
    """Of a /24: the /64 of its addresses' twins."""
    return f"{twin(cidr.split('/')[0])}/64"


def _inside_pod(pod: Pod) -> list[str]:
    router = router_of(pod)
    return [
        f"addr add {pod.address}/32 dev eth0",
        f"addr add {twin(pod.address)}/128 dev eth0 nodad",
        "link set eth0 up",
        f"route add {router} dev eth0 scope link",
        f"route add default via {router}",
        f"route add {twin(router)} dev eth0",
        f"route add default via {twin(router)}",
    ]


def router_of(pod: Pod) -> str:
    """The node's address on the pod's cable: the first of the pod's /24, on every cable the same."""
    return pod.address.rsplit(".", 1)[0] + ".1"
