"""Connections that exist when the plan changes: ended at once or kept, never hanging, never a wrong source.

The table is that of docs/connections.md. TCP ends by a reset that the other side sends to what it doesn't
know; a UDP flow just goes on, from its next datagram on with the source of now.
"""

import asyncio
import dataclasses
import socket

import pytest

from ebbgate_bus.contracts import rows, subjects
from ebbgate_bus.runtime import connection
from ebbgate_lab import topology
from ebbgate_programmer.core import places
from tests.kernel import rig as rigs

EGRESS_IP, OTHER_IP, NODE_IP, GATEWAY_IP = "10.168.60.100", "10.168.60.12", "10.168.60.11", "10.168.60.12"
OUTSIDE, PORT = "10.168.60.13", 9000
WITHIN_S = 2.0
"""A connection that hangs would do so for minutes."""
Scopes = dict[str, dict[str, rows.Row]]


@dataclasses.dataclass(frozen=True)
class Event:
    """`before`, `after`: what the source is, or empty for "dropped". `ends`: whether TCP does."""

    before: str
    after: str
    ends: bool


EVENTS = {
    "policy added": Event(NODE_IP, EGRESS_IP, ends=True),
    "policy removed": Event(EGRESS_IP, NODE_IP, ends=True),
    "destination excluded": Event(EGRESS_IP, NODE_IP, ends=True),
    "another egress IP on the same gateway": Event(EGRESS_IP, OTHER_IP, ends=True),
    "another gateway: the pod's own node": Event(EGRESS_IP, NODE_IP, ends=True),
    "another destination added": Event(EGRESS_IP, EGRESS_IP, ends=False),
    "another policy added": Event(EGRESS_IP, EGRESS_IP, ends=False),
}


def of(family: str, address: str) -> str:
    return address if family == "ipv4" else topology.twin(address)


def _shared(*routes: rows.Route, node: str = "node2", slot: int = rigs.SLOT) -> dict[str, object]:
    gateway = {"node1": "10.168.60.11", "node2": GATEWAY_IP}[node]
    everything = (_steer("0.0.0.0/0"), _steer("::/0"))
    chunk = rows.Routes(policies=("egress-sample",), routes=(*everything, *routes))
    return rigs.shared_rows(rigs.path_group(node, gateway, slot)) | {subjects.routes("s1", 0): chunk}


def _steer(cidr: str, action: rows.Action = rows.Action.STEER) -> rows.Route:
    return rows.Route(cidr, action, "uid-1", "egress-sample")


def _slots(node: str, slot: int, ip: str) -> dict[str, object]:
    return {
        subjects.egress(node, number): rows.Egress(egress_ip=at, interface="eth0", policies=("p",))
        for number, at in ((slot, ip), (slot + 1, topology.twin(ip)))
    }


def _plan(event: str, *, after: bool) -> dict[str, dict[str, object]]:
    """The rows of every scope."""
    covered, gateway = rigs.node_rows("node1"), _slots("node2", rigs.SLOT, EGRESS_IP)
    shared = _shared()
    if (event == "policy added" and not after) or (event == "policy removed" and after):
        covered = {}
    if after and event == "destination excluded":
        excluded = (_steer(f"{OUTSIDE}/32", rows.Action.EXCLUDE),)
        shared = _shared(*excluded, _steer(f"{topology.twin(OUTSIDE)}/128", rows.Action.EXCLUDE))
    if event.startswith("another egress IP"):
        gateway |= _slots("node2", 400, OTHER_IP)
        shared = _shared(slot=400) if after else shared
    if event.startswith("another gateway"):
        covered = covered | _slots("node1", 500, NODE_IP)
        shared = _shared(node="node1", slot=500) if after else shared
    if after and event == "another destination added":
        shared = _shared(_steer("198.51.100.0/24"), _steer("2001:db8:99::/48"))
    if after and event == "another policy added":
        shared = shared | {subjects.group("uid-2"): rows.Group(policy="q")}
    return {
        subjects.ALL_SCOPE: shared,
        subjects.node_scope("node1"): covered,
        subjects.node_scope("node2"): gateway,
    }


async def _publish(bus: connection.Bus, plan: rigs.Plan, scopes: dict[str, dict[str, object]]) -> None:
    revision = await plan.publish(scopes)  # type: ignore[arg-type]
    for node in rigs.NODES:
        await rigs.applied(bus, node, revision)


class Tcp:
    """A connection of the pod's to an echo server of the outside host's."""

    def __init__(self, rig: rigs.Rig, family: str) -> None:
        kind = socket.AF_INET if family == "ipv4" else socket.AF_INET6
        with rig.lab.entered("external"):
            self._listener = socket.create_server((of(family, OUTSIDE), PORT), family=kind, reuse_port=True)
        with rig.lab.entered("mediabot"):
            self._pod = socket.socket(kind, socket.SOCK_STREAM)
        self._pod.settimeout(WITHIN_S)
        self._pod.connect((of(family, OUTSIDE), PORT))
        self._outside, peer = self._listener.accept()
        self._outside.settimeout(WITHIN_S)
        self.source = peer[0]

    def works(self) -> bool:
        """Whether both hear each other; False if it is reset. Raises TimeoutError if it hangs."""
        try:
            self._pod.sendall(b"?")
            if self._outside.recv(1) != b"?":
                return False
            self._outside.sendall(b"!")
            return self._pod.recv(1) == b"!"
        except (ConnectionError, TimeoutError):
            # The outside host hears nothing of a connection that was reset; the pod has to.
            return self._is_alive()

    def _is_alive(self) -> bool:
        try:
            return bool(self._pod.recv(1))
        except ConnectionError:
            return False

    def close(self) -> None:
        for each in (self._pod, self._outside, self._listener):
            each.close()


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("event", EVENTS)
async def test_a_tcp_connection_ends_at_once_or_goes_on(rig: rigs.Rig, event: str, family: str) -> None:
    expected = EVENTS[event]
    async with rigs.connected(rig) as (bus, plan):
        for node in rigs.NODES:
            rig.start(node)
        await _publish(bus, plan, _plan(event, after=False))
        old = Tcp(rig, family)
        assert old.source == of(family, expected.before)
        assert old.works()
        await _publish(bus, plan, _plan(event, after=True))
        assert await asyncio.to_thread(old.works) is not expected.ends
        old.close()
        new = Tcp(rig, family)
        assert new.source == of(family, expected.after)
        assert new.works()
        new.close()
        assert rig.lab.leaks() == 0


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("event", ["policy removed", "destination excluded"])
@pytest.mark.parametrize("damage", ["", f"{places.NFT_TABLE} passing", f"{places.NFT_GUARD} unseen"])
async def test_the_last_word_of_a_forgotten_connection_never_leaves(
    rig: rigs.Rig, event: str, family: str, damage: str
) -> None:
    """conntrack takes a FIN without a connection for invalid, and no masquerade translates it. `damage`: a
    chain that somebody empties, while nobody is there to mend it.
    """
    ip = "ip" if family == "ipv4" else "ip6"
    async with rigs.connected(rig) as (bus, plan):
        for node in rigs.NODES:
            rig.start(node)
        await _publish(bus, plan, _plan(event, after=False))
        old = Tcp(rig, family)
        assert old.works()
        await _publish(bus, plan, _plan(event, after=True))
        if damage:
            rig.kill("node1")
            rig.lab.run("node1", "nft", "flush", "chain", ip, *damage.split())
        old.close()
        await rigs.until(lambda: _dropped_as_invalid(rig, ip) > 0, "the FIN at a guard")
        assert rig.lab.leaks() == 0


def _dropped_as_invalid(rig: rigs.Rig, ip: str) -> int:
    listing = rig.lab.run("node1", "nft", "list", "ruleset", ip)
    rules = [line for line in listing.splitlines() if 'comment "invalid' in line and "counter" in line]
    return sum(int(line.split("packets", 1)[1].split()[0]) for line in rules)


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("gateway", ["another node", "the pod's own node"])
async def test_a_start_ends_what_the_last_programmer_uncovered_and_died(
    rig: rigs.Rig, family: str, gateway: str
) -> None:
    own = gateway == "the pod's own node"
    steered = _plan("another gateway: the pod's own node" if own else "policy removed", after=own)
    async with rigs.connected(rig) as (bus, plan):
        for node in rigs.NODES:
            rig.start(node)
        await _publish(bus, plan, steered)
        old = Tcp(rig, family)
        assert old.works()
        rig.kill("node1")
        _uncover(rig)
        scope = subjects.node_scope("node1")
        left = {key: row for key, row in steered[scope].items() if ".endpoint." not in key}
        revision = await plan.publish({scope: left})  # type: ignore[dict-item]
        ready = rig.log("node1").count("programmer.ready")
        rig.start("node1")
        await rigs.until(lambda: rig.log("node1").count("programmer.ready") > ready, "a new programmer")
        assert (await rigs.applied(bus, "node1", 1)).node_revision == revision
        assert not await asyncio.to_thread(old.works)
        old.close()


def _uncover(rig: rigs.Rig) -> None:
    """As a programmer does before it forgets connections."""
    for ip, family in (("ip", "ipv4"), ("ip6", "ipv6")):
        for table in (places.NFT_TABLE, places.NFT_GUARD):
            element = f"{{ {of(family, '10.244.1.10')} }}"
            rig.lab.run("node1", "nft", "delete", "element", ip, table, "covered", element)


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("event", EVENTS)
async def test_a_udp_flow_goes_on_with_the_source_of_now(rig: rigs.Rig, event: str, family: str) -> None:
    expected = EVENTS[event]
    kind = socket.AF_INET if family == "ipv4" else socket.AF_INET6
    async with rigs.connected(rig) as (bus, plan):
        for node in rigs.NODES:
            rig.start(node)
        await _publish(bus, plan, _plan(event, after=False))
        with rig.lab.entered("external"):
            outside = socket.socket(kind, socket.SOCK_DGRAM)
        with rig.lab.entered("mediabot"):
            pod = socket.socket(kind, socket.SOCK_DGRAM)
        with outside, pod:
            outside.bind((of(family, OUTSIDE), PORT))
            for each in (outside, pod):
                each.settimeout(WITHIN_S)
            assert _asked_and_answered(pod, outside) == of(family, expected.before)
            await _publish(bus, plan, _plan(event, after=True))
            for _ in range(2):
                assert _asked_and_answered(pod, outside) == of(family, expected.after)
        assert rig.lab.leaks() == 0


def _asked_and_answered(pod: socket.socket, outside: socket.socket) -> str:
    """The source that the outside host saw, once its answer has come back. Raises TimeoutError."""
    pod.sendto(b"?", outside.getsockname()[:2])
    question, source = outside.recvfrom(100)
    outside.sendto(question, source)
    assert pod.recv(100) == question
    return str(source[0])
