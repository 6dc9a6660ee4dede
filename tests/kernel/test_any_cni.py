"""On any CNI: however pods are tied to their node, however it masquerades, whatever kube-proxy translates."""

import sys
from collections.abc import Callable

import pytest

from ebbgate_bus.contracts import rows, subjects
from ebbgate_bus.runtime import connection
from ebbgate_lab import topology
from tests.kernel import cnis
from tests.kernel import rig as rigs

EGRESS_IP, NODE_IP, OUTSIDE = "10.168.60.100", "10.168.60.11", "10.168.60.13"
FAMILIES = pytest.mark.parametrize("family", ["ipv4", "ipv6"])
SERVICE = "10.96.0.10"
Change = Callable[[topology.Topology, str], None]


def of(family: str, address: str) -> str:
    return address if family == "ipv4" else topology.twin(address)


def site(family: str, address: str, port: int = 80) -> str:
    return f"http://{address}:{port}/" if family == "ipv4" else f"http://[{topology.twin(address)}]:{port}/"


async def _bring_up(rig: rigs.Rig, bus: connection.Bus, plan: rigs.Plan) -> None:
    for node in rigs.NODES:
        rig.start(node)
    services = {subjects.cluster(cidr): rows.Cluster(cidr=cidr) for cidr in _SERVICES}
    revision = await plan.publish(
        {
            subjects.ALL_SCOPE: rigs.shared_rows() | services,
            subjects.node_scope("node1"): rigs.node_rows("node1"),
            subjects.node_scope("node2"): rigs.node_rows("node2"),
        }
    )
    for node in rigs.NODES:
        assert (await rigs.applied(bus, node, revision)).problems == ()


_SERVICES = ("10.96.0.0/16", "fd00:10:96::/48")


@pytest.mark.parametrize("masquerade", cnis.MASQUERADES)
@pytest.mark.parametrize("attach", cnis.ATTACHMENTS)
async def test_chosen_pods_leave_with_the_egress_ip_and_others_as_ever(
    rig: rigs.Rig, attach: Change, masquerade: Change
) -> None:
    for node in rigs.NODES:
        attach(rig.lab, node)
        masquerade(rig.lab, node)
    async with rigs.connected(rig) as (bus, plan):
        for family in ("ipv4", "ipv6"):
            assert rig.curl("mediabot", site=site(family, OUTSIDE)) == of(family, NODE_IP)
        await _bring_up(rig, bus, plan)
        for family in ("ipv4", "ipv6"):
            assert rig.curl("mediabot", site=site(family, OUTSIDE)) == of(family, EGRESS_IP)
            assert rig.curl("xwing", site=site(family, OUTSIDE)) == of(family, NODE_IP)
            rig.lab.run("mediabot", "ping", "-c1", "-W2", of(family, "10.244.1.11"))
            rig.lab.run("mediabot", "ping", "-c1", "-W2", of(family, "10.244.2.10"))
        assert rig.lab.leaks() == 0


def _proxy_nft(rig: rigs.Rig, target: str, port: int) -> None:
    """As kube-proxy in nftables mode: the service's address becomes a backend's."""
    text = "".join(
        f"""
table {ip} proxy {{
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    {ip} daddr {service} tcp dport 80 dnat to {to}
    fib daddr type local tcp dport 30080 dnat to {node}
  }}
}}
"""
        for ip, service, to, node in (
            ("ip", SERVICE, f"{target}:{port}", "10.244.1.10:8080"),
            (
                "ip6",
                topology.twin(SERVICE),
                f"[{topology.twin(target)}]:{port}",
                f"[{topology.twin('10.244.1.10')}]:8080",
            ),
        )
    )
    rig.lab.run("node1", "nft", "-f", "-", text=text)


def _proxy_iptables(rig: rigs.Rig, target: str, port: int) -> None:
    for tool, service, to, node in (
        ("iptables-legacy", SERVICE, f"{target}:{port}", "10.244.1.10:8080"),
        (
            "ip6tables-legacy",
            topology.twin(SERVICE),
            f"[{topology.twin(target)}]:{port}",
            f"[{topology.twin('10.244.1.10')}]:8080",
        ),
    ):
        add = (tool, "-t", "nat", "-A", "PREROUTING", "-p", "tcp")
        rig.lab.run("node1", *add, "-d", service, "--dport", "80", "-j", "DNAT", "--to", to)
        local = ("-m", "addrtype", "--dst-type", "LOCAL", "--dport", "30080")
        rig.lab.run("node1", *add, *local, "-j", "DNAT", "--to", node)


PROXIES = pytest.mark.parametrize("proxy", [_proxy_nft, _proxy_iptables])
Proxy = Callable[[rigs.Rig, str, int], None]


def _serve(rig: rigs.Rig, pod: str) -> None:
    """An HTTP server in the pod, for both families; its log says who asked."""
    rig.add(rig.start_in(pod, sys.executable, "-m", "http.server", "8080", "--bind", "::", log=f"{pod}.log"))


@PROXIES
@FAMILIES
async def test_a_service_with_an_outside_backend_is_steered(rig: rigs.Rig, family: str, proxy: Proxy) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await _bring_up(rig, bus, plan)
        proxy(rig, OUTSIDE, 80)
        assert rig.curl("mediabot", site=site(family, SERVICE)) == of(family, EGRESS_IP)
        assert rig.curl("xwing", site=site(family, SERVICE)) == of(family, NODE_IP)
        assert rig.lab.leaks() == 0


@PROXIES
@FAMILIES
async def test_a_service_inside_the_cluster_and_inbound_connections_are_left_alone(
    rig: rigs.Rig, family: str, proxy: Proxy
) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await _bring_up(rig, bus, plan)
        proxy(rig, "10.244.2.10", 8080)
        for pod in ("gozanti", "mediabot"):
            _serve(rig, pod)
        await rigs.until(lambda: rig.curl("xwing", site=site(family, SERVICE)), "the service answers")
        assert rig.curl("mediabot", site=site(family, SERVICE))
        assert of(family, "10.244.1.10") in (rig.home / "gozanti.log").read_text()
        # NodePort: the outside host asks the node, a covered pod answers, and the answer goes back.
        await rigs.until(
            lambda: rig.curl("external", site=site(family, NODE_IP, 30080)), "the node's port answers"
        )
        assert of(family, OUTSIDE) in (rig.home / "mediabot.log").read_text()
        assert rig.curl("mediabot", site=site(family, OUTSIDE)) == of(family, EGRESS_IP)
        assert rig.lab.leaks() == 0


@FAMILIES
async def test_a_network_policy_in_a_forward_chain_goes_on_working(rig: rigs.Rig, family: str) -> None:
    ip = "ip" if family == "ipv4" else "ip6"
    denied = f"""
table {ip} netpol {{
  chain forward {{
    type filter hook forward priority filter; policy accept;
    {ip} saddr {of(family, "10.244.1.10")} tcp dport 80 drop
  }}
}}
"""
    async with rigs.connected(rig) as (bus, plan):
        await _bring_up(rig, bus, plan)
        assert rig.curl("mediabot", site=site(family, OUTSIDE)) == of(family, EGRESS_IP)
        rig.lab.run("node1", "nft", "-f", "-", text=denied)
        assert rig.curl("mediabot", seconds=1, site=site(family, OUTSIDE)) == ""
        assert rig.curl("xwing", site=site(family, OUTSIDE)) == of(family, NODE_IP)


async def test_strict_reverse_path_filters_behind_our_back_are_put_right(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await _bring_up(rig, bus, plan)
        for node, interface in (("node1", "ebbgate0"), ("node2", "ebbgate0"), ("node2", "eth0")):
            rig.lab.run(node, "sysctl", "-qw", f"net.ipv4.conf.{interface}.rp_filter=1")
        await rigs.until(lambda: rig.curl("mediabot", seconds=1) == EGRESS_IP, "filters are loose again")


async def test_a_strict_filter_for_all_interfaces_does_no_harm(rig: rigs.Rig) -> None:
    """The kernel takes the larger of both, and loose is the larger."""
    for node in rigs.NODES:
        rig.lab.run(
            node, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.default.rp_filter=1"
        )
    async with rigs.connected(rig) as (bus, plan):
        await _bring_up(rig, bus, plan)
        assert rig.curl("mediabot") == EGRESS_IP
        assert rig.curl("xwing") == NODE_IP
