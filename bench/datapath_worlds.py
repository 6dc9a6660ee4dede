"""The worlds that `make bench-datapath` compares, each with namespaces of its own, all standing at once.

A pod on node1 sends to a host outside. What differs is the way: masqueraded by its own node; routed through
node2 and masqueraded there; tunnelled there by what one would build from nftables, ip rules and a VXLAN
device; by Ebbgate. While traffic is measured nothing changes and programmers look at their kernels once an
hour: what it costs that they look is a figure of its own.
"""

import pathlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench import datapath_plan
from ebbgate_bus.contracts import subjects
from ebbgate_bus.runtime import connection
from ebbgate_lab import lab, processes, topology, webserver

POD = "mediabot"
PODS = (topology.Pod(POD, "node1", datapath_plan.POD),)
NODES = ("node1", "node2")

QUIET = ("--resync", "3600")

# Of the kernel-only gateway. An unusual port, as ours, and nothing tracked twice.
TUNNEL_PORT, VNI = 19031, 100
KERNEL_ONLY = """
table ip gateway {{
  set covered {{ type ipv4_addr; size 65536; elements = {{ {pod} }} }}
  set cluster {{ type ipv4_addr; flags interval; elements = {{ {cluster} }} }}
  map egress {{ type ipv4_addr : ipv4_addr; size 65536; elements = {{ {pod} : {egress_ip} }} }}
  chain raw_in {{ type filter hook prerouting priority raw; udp dport {port} fib daddr type local notrack; }}
  chain raw_out {{ type filter hook output priority raw; udp dport {port} notrack; }}
  chain steer {{
    type filter hook prerouting priority mangle;
    iifname "tunnel0" goto arriving
    ct direction reply ct mark 2 meta mark set 3 accept
    ct direction original ip saddr @covered ip daddr != @cluster meta mark set 1
  }}
  chain arriving {{
    ct direction reply accept
    ct state invalid drop
    ct state new ct mark set 2
    meta mark set 2
  }}
  chain passing {{
    type filter hook forward priority mangle;
    oifname "tunnel0" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
  }}
  chain translate {{
    type nat hook postrouting priority srcnat - 10;
    oifname "tunnel0" snat to ip saddr
    meta mark 2 snat to ip saddr map @egress fully-random
  }}
}}
"""


class World:
    """`seen_as`: the pod's address outside. `key`: short, part of the namespaces' names.

    This one is "direct": the CNI's masquerade on the pod's own node, no gateway. Subclasses change it.
    """

    title, seen_as = "direct, masqueraded by the pod's own node", "10.168.60.11"

    def __init__(self, key: str) -> None:
        self.key = key
        self.topology = topology.Topology(f"ebh{key}-", pods=PODS)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"ebbgate-bench-{key}-"))
        self.processes: list[processes.Process] = []

    def netns(self, name: str) -> str:
        return f"{self.topology.prefix}{name}"

    async def build(self, load: pathlib.Path) -> None:
        """`load`: the compiled load program. Raises RuntimeError, TimeoutError."""
        self.topology.make()
        # A switch has no netfilter.
        self.topology.run(topology.UNDERLAY, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
        for node in NODES:
            # A gateway on one wire with everybody would tell the pod of a shorter way.
            for where in ("all", "default", "eth0"):
                self.topology.run(node, "sysctl", "-qw", f"net.ipv4.conf.{where}.send_redirects=0")
        await self.prepare()
        self._serve("iperf3", "iperf3", "-s", "-A", "1", port=5201)
        self._serve("serve", "taskset", "-c", "1", str(load), "serve", webserver.ADDRESS, "7000", port=7000)

    async def prepare(self) -> None:
        """What this way needs beside the topology."""

    def start(self, name: str, place: str, *arguments: str) -> processes.Process:
        process = processes.Process(name, arguments, log=self.folder / f"{name}.log", netns=self.netns(place))
        process.start()
        self.processes.append(process)
        return process

    def remove(self) -> None:
        """End its processes and remove what it made, also what is half made."""
        for process in reversed(self.processes):
            process.stop()
        self.topology.remove()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _serve(self, name: str, *arguments: str, port: int) -> None:
        self.start(name, "external", *arguments)
        processes.until_listening(webserver.ADDRESS, port, netns=self.netns("external"))


class Plain(World):
    """The same hops as through a gateway, without tunnel or sets: what no gateway can be faster than."""

    title, seen_as = "plain routing through the gateway node, masqueraded there", datapath_plan.GATEWAY_IP

    async def prepare(self) -> None:
        run = self.topology.run
        run("node1", "nft", "flush", "chain", "ip", "cni", "postrouting")
        run("node1", "ip", "rule", "add", "iif", f"veth-{POD}", "lookup", "100")
        run("node1", "ip", "route", "add", "default", "via", datapath_plan.GATEWAY_IP, "table", "100")


class KernelOnly(World):
    """What one would build without us. A mark chooses the tunnel, the connection's mark the way back."""

    title, seen_as = "kernel only: nftables, ip rules, VXLAN", datapath_plan.EGRESS_IP

    async def prepare(self) -> None:
        text = KERNEL_ONLY.format(
            pod=datapath_plan.POD,
            cluster=", ".join(datapath_plan.CLUSTER),
            egress_ip=datapath_plan.EGRESS_IP,
            port=TUNNEL_PORT,
        )
        ends = {"node1": ("10.168.60.11", "169.254.7.1"), "node2": ("10.168.60.12", "169.254.7.2")}
        for node, (own, inner) in ends.items():
            (other,) = [each for name, each in ends.items() if name != node]
            self._tunnel(node, own, inner, other)
            self.topology.run(node, "nft", "-f", "-", text=text)
            mark, table = ("1", "101") if node == "node1" else ("3", "103")
            self._route(node, mark, table, other[1])

    def _tunnel(self, node: str, own: str, inner: str, other: tuple[str, str]) -> None:
        remote, gateway = other
        mac = {"169.254.7.1": "02:00:00:00:07:01", "169.254.7.2": "02:00:00:00:07:02"}
        for line in (
            f"link add tunnel0 address {mac[inner]} mtu 1450 type vxlan id {VNI} local {own} remote {remote} "
            f"dstport {TUNNEL_PORT} nolearning",
            f"addr add {inner}/24 dev tunnel0",
            "link set tunnel0 up",
            f"neigh add {gateway} lladdr {mac[gateway]} dev tunnel0 nud permanent",
        ):
            self.topology.run(node, "ip", *line.split())

    def _route(self, node: str, mark: str, table: str, gateway: str) -> None:
        for line in (
            # The tunnel's own packets carry the mark too, and would be sent into the tunnel again.
            "rule add iif lo lookup main priority 999",
            f"rule add fwmark {mark} lookup {table} priority 1000",
            f"route add default via {gateway} dev tunnel0 table {table}",
            f"route add blackhole default metric 4096 table {table}",
        ):
            self.topology.run(node, "ip", *line.split())


class Ebbgate(World):
    """Real programmers on both nodes, following a plan on a real nats-server."""

    seen_as = datapath_plan.EGRESS_IP
    options: tuple[str, ...] = ()

    def __init__(self, key: str, size: datapath_plan.Size) -> None:
        super().__init__(key)
        self.size = size
        self.title = f"Ebbgate, {size.text()}"
        self.plan = datapath_plan.Plan()
        self.programmers: dict[str, processes.Process] = {}

    @property
    def url(self) -> str:
        return f"nats://{lab.CONTROL}:{lab.NATS_PORT}"

    async def prepare(self) -> None:
        lab.ensure_bpffs()
        shutil.rmtree(self._pins(""), ignore_errors=True)
        netns = self.netns("control")
        server = processes.nats_server(self.folder, host=lab.CONTROL, port=lab.NATS_PORT, netns=netns)
        server.start()
        self.processes.append(server)
        processes.until_listening(lab.CONTROL, lab.NATS_PORT, netns=netns)
        for node in NODES:
            self.start_programmer(node, *QUIET, *self.options)
        async with self.writing() as writer:
            answer = await writer.publish(
                {
                    subjects.ALL_SCOPE: datapath_plan.shared_rows(self.size.routes),
                    subjects.node_scope("node1"): datapath_plan.endpoint_rows(self.size.endpoints),
                    subjects.node_scope("node2"): datapath_plan.gateway_rows(),
                }
            )
        counts = answer.applied.counts
        # The others' set has a route too, once there are others.
        routes = self.size.routes + (self.size.endpoints > 1)
        assert (counts["endpoints"], counts["routes"]) == (self.size.endpoints, routes), counts

    def start_programmer(self, node: str, *options: str) -> None:
        """Anew, if it runs already."""
        if node in self.programmers:
            self.programmers[node].stop()
            self.processes.remove(self.programmers[node])
        command = self._programmer("run", node, *options)
        self.programmers[node] = self.start(f"programmer-{node}", node, *command)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[datapath_plan.Writer]:
        """A connection to this world's bus, made inside it."""
        with self.topology.entered("control"):
            bus = await connection.connect(self.url, name="bench")
        try:
            writer = datapath_plan.Writer(bus, self.plan)
            await writer.start()
            yield writer
        finally:
            await bus.close()

    def remove(self) -> None:
        for process in self.processes:
            process.kill()
        for node in self.programmers:
            processes.run(self.netns(node), *self._programmer("clean", node))
        super().remove()
        shutil.rmtree(self._pins(""), ignore_errors=True)

    def _pins(self, node: str) -> pathlib.Path:
        return lab.BPFFS / f"{self.topology.prefix}bench" / node

    def _programmer(self, command: str, node: str, *options: str) -> list[str]:
        places = [
            "--nats",
            self.url,
            "--pin-path",
            str(self._pins(node)),
            "--bpf-object",
            str(lab.BPF_OBJECT),
        ]
        return processes.module("ebbgate_programmer", command, "--node", node, *places, *options)


class ByDevice(Ebbgate):
    """All packets by the VXLAN device: what the direct way saves."""

    options = ("--direct", "off")

    def __init__(self, key: str, size: datapath_plan.Size) -> None:
        super().__init__(key, size)
        self.title += ", direct way off"
