"""The direct way of tunnel packets (bpf/direct.h): the bytes on the wire, and what it leaves alone."""

import asyncio
import hashlib
import ipaddress
import json
import os
import socket
import struct
from collections.abc import Iterator

import msgspec
import pytest

from ebbgate_bus.contracts import rows
from ebbgate_lab import topology
from ebbgate_programmer.core import changes, desired, layout, lowering, marks, ordering, places
from ebbgate_programmer.io import bpf, interfaces, kernel, objects
from tests.kernel import rig as rigs

REDIRECT, DROP, NEXT = 7, 2, 0xFFFFFFFF
NODE, GATEWAY, STRANGER = "10.168.60.11", "10.168.60.12", "10.168.60.13"
OUTSIDE_HOST = "10.168.60.13"
SLOT, REPLY, PORT = 77, 1, places.PORT
POD, POD6, OUTSIDE, OUTSIDE6 = "10.244.1.10", "fd00::10", "8.8.8.8", "2600::1"
OUTER = 50
UDP, TCP = 17, 6
PATHS = rows.Paths(paths=(rows.Path("node2", GATEWAY, SLOT),), buckets=(0,) * rows.BUCKETS)
PLAN = desired.Desired(
    node="node1",
    endpoints=tuple(rows.Endpoint(ip=ip, set="s", bucket=0, pod="default/a") for ip in (POD, POD6)),
    sets={"s": tuple(rows.Route(cidr, rows.Action.STEER, "uid", "p") for cidr in ("0.0.0.0/0", "::/0"))},
    groups={"uid": rows.Group(policy="p", ipv4=PATHS, ipv6=PATHS)},
    peers=(NODE, GATEWAY),
    own=(NODE,),
)


class Node(msgspec.Struct):
    """`uplink`: index and MAC of its device; `programs`: descriptors."""

    lab: topology.Topology
    kernel: kernel.Kernel
    uplink: tuple[int, bytes]
    programs: dict[str, int]

    def run(self, program: str, frame: bytes, **context: int) -> tuple[int, bytes, int]:
        """The program's answer, the frame, and the mark."""
        given = _context(ifindex=self.uplink[0], **context)
        code, after, told = bpf.run_program(self.programs[program], frame, given)
        return code, after, int(struct.unpack_from("=I", told, 8)[0])

    def arriving(self, inner: bytes, **changed: object) -> bytes:
        return _outer(self.uplink[1], inner, **changed)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """node1 with PLAN in its maps, programs attached, and a gateway whose MAC is known."""
    lab = topology.Topology(rigs.prefix("w"), hosts=topology.HOSTS[1:2], pods=())
    lab.make()
    rigs.ensure_bpffs()
    rigs.ensure_object()
    lab.run("node1", *f"ip neigh replace {GATEWAY} lladdr 02:00:00:00:00:12 dev eth0".split())
    lab.run("node1", "sysctl", "-qw", "net.ipv4.ip_forward=1")
    with lab.entered("node1"):
        made = kernel.Kernel(rigs.BPFFS / f"{rigs.prefix('w')}test", rigs.OBJECT)
        _bring(made)
        (link,) = (each for each in interfaces.links() if each.name == "eth0")
        mac = bytes.fromhex(link.mac.replace(":", ""))
        programs = {name: bpf.get(made.pins.path(name)) for name in objects.PROGRAMS}
        yield Node(lab, made, (link.index, mac), programs)
        for descriptor in programs.values():
            os.close(descriptor)
        made.clean()
        made.close()
    lab.remove()


def _bring(made: kernel.Kernel, *, port: int = PORT, direct: bool = True) -> None:
    environment = msgspec.structs.replace(made.environment("node1", port), direct=direct)
    state = lowering.lower(PLAN, environment).state
    for change in ordering.diff(state, made.read(state.sysctls), ()):
        if not isinstance(change, changes.SetFirewall | changes.UpdateSets):
            made.apply(change)
    assert made.read(state.sysctls).direct == state.direct


def _context(*, mark: int = 0, ifindex: int = 0, gso_size: int = 0) -> bytes:
    """A struct __sk_buff."""
    context = bytearray(192)
    for place, value in ((8, mark), (40, ifindex), (176, gso_size)):
        struct.pack_into("=I", context, place, value)
    return bytes(context)


def _inner(source: str, destination: str, *, tos: int = 0, protocol: int = UDP, load: bytes = b"") -> bytes:
    """A frame as ebbgate0 has it: its own MAC twice, and a packet."""
    head = struct.pack(">HHHH", 1000, 2000, 8 + len(load), 0)
    if protocol == TCP:
        head = struct.pack(">HHIIBBHHH", 1000, 2000, 1, 1, 5 << 4, 0x10, 64, 0, 0)
    both = b"".join(ipaddress.ip_address(each).packed for each in (source, destination))
    size = len(head) + len(load)
    if ":" in source:
        kind, header = 0x86DD, struct.pack(">IHBB", 6 << 28 | tos << 20, size, protocol, 64) + both
    else:
        kind, header = (
            0x0800,
            struct.pack(">BBHHHBBH", 0x45, tos, 20 + size, 0, 0, 64, protocol, 0) + both,
        )
    return b"\x02\0\0\0\0\x0b" * 2 + struct.pack(">H", kind) + header + head + load


def _sum(header: bytes) -> int:
    total = sum(struct.unpack(f">{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _outer(
    mac: bytes,
    inner: bytes,
    *,
    source: str = GATEWAY,
    to: str = NODE,
    vni: int = SLOT,
    ecn: int = 0,
    fragment: int = 0,
    port: int = PORT,
    flags: int = 0x08000000,
    checksum: int = 0,
    damage: int = 0,
    options: bytes = b"",
    padding: bytes = b"",
) -> bytes:
    """The tunnel packet around a frame, as a peer's kernel would send it."""
    vxlan = struct.pack(">II", flags, vni << 8) + inner
    udp = struct.pack(">HHHH", 40000, port, 8 + len(vxlan), checksum) + vxlan
    both = b"".join(ipaddress.ip_address(each).packed for each in (source, to))
    first, length = 0x45 + len(options) // 4, 20 + len(options) + len(udp)
    header = struct.pack(">BBHHHBBH", first, ecn, length, 7, fragment, 64, UDP, 0) + both + options
    sum_ = _sum(header) ^ damage
    header = header[:10] + struct.pack(">H", sum_) + header[12:]
    return mac + b"\x02\0\0\0\0\x12" + b"\x08\0" + header + udp + padding


INNER = {
    "ipv4": (POD, OUTSIDE),
    "ipv6": (POD6, OUTSIDE6),
}


@pytest.mark.parametrize(("tos", "ecn"), [(0, 0), (0xB8, 0), (1, 1), (2, 2), (3, 2)])
@pytest.mark.parametrize("family", INNER)
def test_encap_writes_the_tunnel_packet_that_the_device_would_have_sent(
    node: Node, family: str, tos: int, ecn: int
) -> None:
    inner = _inner(*INNER[family], tos=tos, load=b"words")
    code, frame, mark = node.run("encap", inner, mark=marks.mark_of(marks.STEER))
    assert (code, mark) == (REDIRECT, 0)
    header, udp = frame[14:34], frame[34:42]
    version, seen_tos, length, _, fragment, ttl, protocol, _ = struct.unpack(">BBHHHBBH", header[:12])
    assert (version, seen_tos, length) == (0x45, ecn, len(frame) - 14)
    assert (fragment, ttl, protocol, _sum(header)) == (0, 64, UDP, 0)
    assert [str(ipaddress.ip_address(header[at : at + 4])) for at in (12, 16)] == [NODE, GATEWAY]
    source, port, size, checksum = struct.unpack(">HHHH", udp)
    assert (port, size, checksum) == (PORT, len(frame) - 34, 0)
    assert source >= 32768
    assert struct.unpack(">II", frame[42:50]) == (0x08000000, SLOT << 8)
    assert frame[50:] == inner


@pytest.mark.parametrize("family", INNER)
def test_take_gives_a_peers_packet_to_ebbgate0_with_its_slot(node: Node, family: str) -> None:
    inner = _inner(*INNER[family], load=b"words")
    code, frame, mark = node.run("take", node.arriving(inner))
    assert (code, mark) == (REDIRECT, marks.mark_of(SLOT))
    assert frame[12:] == inner[12:]


@pytest.mark.parametrize("family", INNER)
def test_take_gives_an_answer_to_ebbgate0_and_decap_lets_both_in(node: Node, family: str) -> None:
    answer = _inner(*INNER[family][::-1])
    code, frame, mark = node.run("take", node.arriving(answer, vni=REPLY))
    assert (code, mark) == (REDIRECT, marks.mark_of(marks.PASSED))
    assert node.run("decap", frame, mark=mark)[::2] == (NEXT, 0)
    assert node.run("decap", frame, mark=marks.mark_of(SLOT))[::2] == (NEXT, marks.mark_of(SLOT))


@pytest.mark.parametrize("field", [0, marks.STEER, marks.RECLASS, marks.REPLY, marks.CLASSES[0]])
def test_decap_drops_what_neither_a_tunnel_nor_take_brought(node: Node, field: int) -> None:
    assert node.run("decap", _inner(*INNER["ipv4"]), mark=marks.mark_of(field))[0] == DROP


LEFT_ALONE: dict[str, dict[str, object]] = {
    "a stranger": {"source": STRANGER},
    "for somebody else": {"to": GATEWAY},
    "another port": {"port": 4789},
    "a reserved network": {"vni": 2},
    "no slot": {"vni": 4096},
    "marked by congestion": {"ecn": 3},
    "the first fragment": {"fragment": 0x2000},
    "a later fragment": {"fragment": 3},
    "other flags": {"flags": 0x08000001},
    "a UDP checksum": {"checksum": 1},
    "a wrong header checksum": {"damage": 4},
    "IP options": {"options": b"\x01" * 4},
    "padding behind it": {"padding": b"\0" * 6},
}


@pytest.mark.parametrize("what", LEFT_ALONE)
def test_take_leaves_to_the_device_what_is_not_plain(node: Node, what: str) -> None:
    given = node.arriving(_inner(*INNER["ipv4"]), **LEFT_ALONE[what])
    assert node.run("take", given) == (NEXT, given, 0)


def test_take_leaves_to_the_device_what_is_not_ip_inside(node: Node) -> None:
    given = node.arriving(b"\x02" * 12 + b"\x08\x06" + bytes(28))
    assert node.run("take", given) == (NEXT, given, 0)


@pytest.mark.parametrize("family", INNER)
def test_a_segment_with_data_overtakes_nobody_and_one_without_may(node: Node, family: str) -> None:
    data = node.arriving(_inner(*INNER[family], protocol=TCP, load=b"words"))
    assert node.run("take", data) == (NEXT, data, 0)
    assert node.run("take", node.arriving(_inner(*INNER[family], protocol=TCP)))[0] == REDIRECT


def test_what_is_yet_to_be_cut_and_not_tcp_and_what_was_put_together_goes_by_the_device(node: Node) -> None:
    inner = _inner(POD, OUTSIDE, load=b"x" * 100)
    code, frame, mark = node.run("encap", inner, mark=marks.mark_of(marks.STEER), gso_size=50)
    assert (code, frame, mark) == (NEXT, inner, 0)
    arriving = node.arriving(_inner(POD, OUTSIDE, load=b"x" * 100))
    assert node.run("take", arriving, gso_size=50)[0] == NEXT


@pytest.mark.parametrize("length", [1500, 1465])
def test_what_does_not_fit_goes_by_the_device(node: Node, length: int) -> None:
    inner = _inner(POD, OUTSIDE, load=b"x" * (length - 28))
    assert node.run("encap", inner, mark=marks.mark_of(marks.STEER))[:2] == (NEXT, inner)


@pytest.mark.parametrize(
    ("spoil", "mend"),
    [
        (
            f"ip neigh del {GATEWAY} dev eth0",
            f"ip neigh replace {GATEWAY} lladdr 02:00:00:00:00:12 dev eth0",
        ),
        (f"ip route add blackhole {GATEWAY}/32", f"ip route del blackhole {GATEWAY}/32"),
    ],
)
def test_without_a_next_hop_the_stack_sees_to_it(node: Node, spoil: str, mend: str) -> None:
    inner, steer = _inner(POD, OUTSIDE), marks.mark_of(marks.STEER)
    node.lab.run("node1", *spoil.split())
    assert node.run("encap", inner, mark=steer)[:2] == (NEXT, inner)
    node.lab.run("node1", *mend.split())
    assert node.run("encap", inner, mark=steer)[0] == REDIRECT


def test_without_a_direct_way_all_goes_by_the_device(node: Node) -> None:
    inner = _inner(POD, OUTSIDE)
    given = node.arriving(inner)
    _bring(node.kernel, direct=False)
    assert node.run("encap", inner, mark=marks.mark_of(marks.STEER))[:2] == (NEXT, inner)
    assert node.run("take", given) == (NEXT, given, 0)
    _bring(node.kernel)
    assert node.run("take", given)[0] == REDIRECT


def test_a_way_to_a_device_that_is_gone_is_seen_and_put_right(node: Node) -> None:
    with bpf.opened(node.kernel.pins.path("direct")) as descriptor:
        bpf.put(descriptor, layout.FIRST, layout.pack_direct(4000, PORT))
    assert node.kernel.read().direct == -1
    _bring(node.kernel)


def test_ipsec_policies_keep_tunnel_packets_in_the_stack(node: Node) -> None:
    assert node.kernel.environment("node1", PORT).direct
    policy = f"dir out src {NODE} dst {GATEWAY}"
    node.lab.run("node1", *f"ip xfrm policy add {policy} tmpl proto ah mode transport".split())
    assert not node.kernel.environment("node1", PORT).direct
    node.lab.run("node1", *f"ip xfrm policy del {policy}".split())
    assert node.kernel.environment("node1", PORT).direct


def test_the_setting_turns_the_direct_way_off(node: Node) -> None:
    off = kernel.Kernel(node.kernel.pins.root, rigs.OBJECT, direct=places.OFF)
    assert not off.environment("node1", PORT).direct
    off.close()


@pytest.mark.parametrize("family", INNER)
@pytest.mark.parametrize("longest", [65536, 3000])
async def test_a_stream_arrives_whole_whoever_cuts_its_segments(
    rig: rigs.Rig, longest: int, family: str
) -> None:
    """`longest`: bytes of a packet that the source's uplink takes; the kernel cuts what is longer."""
    outside = OUTSIDE_HOST if family == "ipv4" else topology.twin(OUTSIDE_HOST)
    async with rigs.connected(rig) as (bus, plan):
        await rigs.bring_up(rig, bus, plan)
        rig.lab.run("node1", *f"ip link set eth0 gso_max_size {longest}".split())
        assert rig.curl("mediabot"), "the gateway's MAC is known from here on"
        before = _sent_by_device(rig)
        with _socket(rig, "external", family) as listening, _socket(rig, "mediabot", family) as pod:
            listening.bind((outside, 9000))
            listening.listen()
            content = os.urandom(1 << 16) * 200
            receiving = asyncio.create_task(asyncio.to_thread(_receive, listening))
            await asyncio.to_thread(pod.connect, (outside, 9000))
            await asyncio.to_thread(pod.sendall, content)
            pod.shutdown(socket.SHUT_WR)
            assert hashlib.sha256(content).digest() == await receiving
        assert _sent_by_device(rig) == before
        assert rig.lab.leaks() == 0


def _socket(rig: rigs.Rig, place: str, family: str) -> socket.socket:
    with rig.lab.entered(place):
        made = socket.socket(socket.AF_INET if family == "ipv4" else socket.AF_INET6)
    made.settimeout(30)
    return made


def _receive(listening: socket.socket) -> bytes:
    digest = hashlib.sha256()
    with listening.accept()[0] as stream:
        while part := stream.recv(1 << 20):
            digest.update(part)
    return digest.digest()


def _sent_by_device(rig: rigs.Rig) -> int:
    """Packets that node1 sent by the VXLAN device, but for its own first words to its neighbours."""
    (link,) = json.loads(rig.lab.run("node1", "ip", "-j", "-s", "link", "show", places.DEVICE))
    return int(link["stats64"]["tx"]["packets"])
