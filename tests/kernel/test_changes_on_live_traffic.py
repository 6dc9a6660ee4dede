"""Traffic while the plan changes: connections end or go on with what they began with, nothing leaks."""

import asyncio
import errno
import os
import subprocess

from ebbgate_bus.contracts import codec, facts, rows, streams, subjects
from ebbgate_bus.runtime import connection, follower
from tests.kernel import rig as rigs

EGRESS_IP, NODE_IP, GATEWAY_IP = "10.168.60.100", "10.168.60.11", "10.168.60.12"


async def _more(rig: rigs.Rig, pod: str) -> None:
    count = len(rig.said(pod))
    await rigs.until(lambda: len(rig.said(pod)) > count, f"{pod} gets answers")


async def test_a_new_policy_ends_the_chosen_pods_connections_and_no_others(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        ours, others = rig.converse("mediabot"), rig.converse("xwing")
        for pod in ("mediabot", "xwing"):
            await _more(rig, pod)
        await rigs.bring_up(rig, bus, plan)
        await rigs.until(lambda: ours.poll() is not None, "the old connection ends")
        assert rig.curl("mediabot") == EGRESS_IP
        await _more(rig, "xwing")
        assert others.poll() is None
        assert set(rig.said("mediabot")) == {NODE_IP}
        assert rig.lab.leaks() == 0


async def test_a_connection_through_the_gateway_ends_when_its_policy_goes(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        ours = rig.converse("mediabot")
        await _more(rig, "mediabot")
        revision = await plan.publish(
            {subjects.node_scope("node1"): {}, subjects.ALL_SCOPE: rigs.shared_rows()}
        )
        await rigs.applied(bus, "node1", revision)
        await rigs.until(lambda: ours.poll() is not None, "the steered connection ends")
        assert rig.curl("mediabot") == NODE_IP
        assert set(rig.said("mediabot")) == {EGRESS_IP}
        assert rig.lab.leaks() == 0


async def test_another_slot_on_the_same_gateway_ends_old_connections_and_new_ones_have_the_new_address(
    rig: rigs.Rig,
) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        ours = rig.converse("mediabot")
        await _more(rig, "mediabot")
        second = rows.Egress(egress_ip=GATEWAY_IP, interface="eth0", policies=("egress-sample",))
        both = rigs.node_rows("node2") | {subjects.egress("node2", 400): second}
        await plan.publish({subjects.node_scope("node2"): both})
        revision = await plan.publish({subjects.ALL_SCOPE: rigs.shared_rows(rigs.path_group(slot=400))})
        for node in rigs.NODES:
            await rigs.applied(bus, node, revision)
        assert rig.curl("mediabot") == GATEWAY_IP
        await rigs.until(lambda: ours.poll() is not None, "the connection of the old slot ends")
        assert set(rig.said("mediabot")) == {EGRESS_IP}
        assert rig.lab.leaks() == 0


async def test_an_excluded_destination_leaves_with_the_nodes_address(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        chunk = rows.Routes(
            policies=("egress-sample",),
            routes=(
                rows.Route("0.0.0.0/0", rows.Action.STEER, "uid-1", "egress-sample"),
                rows.Route("10.168.60.13/32", rows.Action.EXCLUDE, "uid-1", "egress-sample"),
            ),
        )
        changed = rigs.shared_rows() | {subjects.routes("s1", 0): chunk}
        await rigs.applied(bus, "node1", await plan.publish({subjects.ALL_SCOPE: changed}))
        assert rig.curl("mediabot") == NODE_IP
        await rigs.applied(bus, "node1", await plan.publish({subjects.ALL_SCOPE: rigs.shared_rows()}))
        assert rig.curl("mediabot") == EGRESS_IP


async def test_a_pod_on_its_own_gateway_leaves_with_the_egress_ip(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        endpoint = rows.Endpoint(ip="10.244.2.10", set="s1", bucket=9, pod="default/gozanti")
        own = rigs.node_rows("node2") | {subjects.endpoint("node2", "10.244.2.10"): endpoint}
        revision = await plan.publish(
            {subjects.node_scope("node2"): own, subjects.ALL_SCOPE: rigs.shared_rows()}
        )
        await rigs.applied(bus, "node2", revision)
        assert rig.curl("gozanti") == EGRESS_IP
        assert rig.curl("mediabot") == EGRESS_IP


async def test_cluster_destinations_are_never_steered(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        assert "1 received" in rig.lab.run("mediabot", "ping", "-c1", "-W2", "10.244.2.10")
        assert "1 received" in rig.lab.run("gozanti", "ping", "-c1", "-W2", "10.244.1.10")
        assert rig.lab.run("node2", "conntrack", "-L", "--mark", str(rigs.SLOT)) == ""


async def test_a_nodes_network_is_reported_and_followed(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        eth0 = next(each for each in await _interfaces(bus) if each.name == "eth0")
        assert eth0.addresses[:2] == ("10.168.60.12/24", "10.168.60.100/24")
        assert eth0.addresses[2:] == ("fd00:10:168:60::12/64", "fd00:10:168:60::100/64")
        assert eth0.default_route == ("ipv4", "ipv6")
        rig.lab.run("node2", "ip", "addr", "add", "10.168.60.101/24", "dev", "eth0")
        rig.lab.run("node2", "ip", "link", "property", "add", "dev", "eth0", "altname", "uplink-of-node2")
        async with asyncio.timeout(rigs.DEADLINE_S):
            while "10.168.60.101/24" not in eth0.addresses or eth0.alt_names != ("uplink-of-node2",):
                await asyncio.sleep(0.02)
                eth0 = next(each for each in await _interfaces(bus) if each.name == "eth0")


async def _interfaces(bus: connection.Bus) -> tuple[facts.Interface, ...]:
    subject = subjects.fact("nodenetwork", "node2")
    for stored in await follower.read(bus, streams.FACT, [subject]):
        said = codec.decode(stored.subject, stored.payload)
        assert isinstance(said, facts.NodeNetwork)
        return said.interfaces
    return ()


async def test_a_row_that_does_not_decode_is_a_problem_and_stops_no_other(rig: rigs.Rig) -> None:
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        own = rigs.node_rows("node1")
        unknown = rows.Endpoint(v=9, ip="x", set="", bucket=0, pod="")
        broken = {subjects.endpoint("node1", "10.244.1.11"): unknown}
        revision = await plan.publish(
            {subjects.node_scope("node1"): own | broken, subjects.ALL_SCOPE: rigs.shared_rows()}
        )
        said = await rigs.applied(bus, "node1", revision)
        assert [problem.row for problem in said.problems] == list(broken)
        assert rig.curl("mediabot") == EGRESS_IP
        assert rig.curl("xwing", seconds=1) == ""


def test_what_is_missing_is_said_in_one_line(tmp_path: object) -> None:
    options = ("--node", "n", "--pin-path", f"{tmp_path}/pins", "--bpf-object", "/nowhere.o")
    done = subprocess.run((*rigs.PROGRAMMER, "check", *options), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "a bpf filesystem" in done.stderr
    assert "/nowhere.o" in done.stderr
    assert done.stderr.count("\n") == 1
    assert os.strerror(errno.ENOENT) not in done.stderr
