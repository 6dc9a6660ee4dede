"""The real BPF programs on a table of packets, against the oracle; and the C structs against their twins."""

import ipaddress
import json
import os
import pathlib
import struct
import subprocess
from collections.abc import Iterator

import pytest

from ebbgate_bus.contracts import rows
from ebbgate_lab import topology
from ebbgate_programmer.core import changes, decisions, desired, layout, lowering, marks
from ebbgate_programmer.io import bpf, kernel, objects
from tests.kernel import rig as rigs

REROUTE, DROP = 128, 2
TCX_NEXT = 0xFFFFFFFF
ETHERNET = b"\x02" * 12 + b"\x08\x00"
PODS = ("10.244.1.10", "10.244.1.11", "10.244.1.12", "10.244.1.13")
TARGETS = (
    "10.168.60.13",
    "192.0.2.7",
    "192.0.2.9",
    "198.51.100.1",
    "203.0.113.5",
    "8.8.8.8",
    "255.255.255.255",
)
PLAN = desired.Desired(
    node="node1",
    endpoints=(
        rows.Endpoint(ip=PODS[0], set="s1", bucket=0, pod="default/a"),
        rows.Endpoint(ip=PODS[1], set="s1", bucket=1, pod="default/b"),
        rows.Endpoint(ip=PODS[2], set="s2", bucket=2, pod="default/c"),
    ),
    sets={
        "s1": (
            rows.Route("0.0.0.0/0", rows.Action.STEER, "uid-1", "p"),
            rows.Route("192.0.2.0/24", rows.Action.EXCLUDE, "uid-1", "p"),
            rows.Route("192.0.2.9/32", rows.Action.STEER, "uid-2", "q"),
            rows.Route("203.0.113.0/24", rows.Action.DROP, "", "r"),
        ),
        "s2": (rows.Route("198.51.100.0/25", rows.Action.STEER, "uid-1", "p"),),
    },
    groups={
        "uid-1": rows.Group(
            policy="p",
            ipv4=rows.Paths(
                paths=(rows.Path("node2", "10.168.60.12", 77), rows.Path("node1", "10.168.60.11", 4095)),
                buckets=(0, 1, *[0] * 62),
            ),
        ),
        "uid-2": rows.Group(
            policy="q", ipv4=rows.Paths(paths=(rows.Path("node2", "10.168.60.12", 0),), buckets=(0,) * 64)
        ),
    },
    egress={4095: rows.Egress(egress_ip="10.168.60.11", interface="eth0")},
    peers=("10.168.60.12",),
)


@pytest.fixture(scope="module")
def programs(_machine: None) -> Iterator[dict[str, int]]:
    """Descriptors of the loaded programs, with PLAN in their maps; in a namespace of its own."""
    lab = topology.Topology("ebm-", hosts=topology.HOSTS[1:2], pods=())
    lab.make()
    pins = rigs.BPFFS / "ebm-test"
    with lab.entered("node1"):
        made = kernel.Kernel(pins, rigs.OBJECT)
        state = lowering.lower(PLAN, made.environment("node1", 19021)).state
        for change in changes.diff(state, made.read(state.sysctls), ()):
            if not isinstance(change, changes.SetFirewall | changes.UpdateSets):
                made.apply(change)
        found = {name: bpf.get(made.pins.path(name)) for name in objects.PROGRAMS}
        yield found
        for descriptor in found.values():
            os.close(descriptor)
        made.clean()
        made.close()
    lab.remove()


def _state() -> decisions.Tables:
    return decisions.Tables(lowering.lower(PLAN, lowering.Environment(node="node1")).state)


def _packet(source: str, destination: str) -> bytes:
    addresses = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(destination).packed
    header = struct.pack(">BBHHHBBH", 0x45, 0, 28, 0, 0, 64, 17, 0) + addresses
    return ETHERNET + header + struct.pack(">HHHH", 1000, 2000, 8, 0)


def _context(mark: int) -> bytes:
    """A struct __sk_buff with this mark: the third word."""
    return struct.pack("=II", 0, 0) + struct.pack("=I", mark) + bytes(192 - 12)


def _mark(context: bytes) -> int:
    return int(struct.unpack_from("=I", context, 8)[0])


def _wanted(answer: decisions.Decision, mark: int) -> tuple[int, int]:
    """What `classify` must return, and the mark that it must leave."""
    others = mark & marks.KEEP
    if answer.kind is decisions.Kind.DROPPED:
        return DROP, mark
    field = {
        decisions.Kind.UNTOUCHED: 0,
        decisions.Kind.TUNNEL: marks.STEER,
        decisions.Kind.LOCAL: answer.slot,
    }
    return REROUTE, others | marks.mark_of(field[answer.kind])


@pytest.mark.parametrize("pod", PODS)
@pytest.mark.parametrize("target", TARGETS)
def test_classify_agrees_with_the_oracle(programs: dict[str, int], pod: str, target: str) -> None:
    mark = 0xC0000000 | marks.mark_of(marks.RECLASS)
    code, _, context = bpf.run_program(programs["classify"], _packet(pod, target), _context(mark))
    answer = decisions.classify(_state(), pod, int(ipaddress.IPv4Address(target)))
    wanted_code, wanted_mark = _wanted(answer, mark)
    assert code == wanted_code
    if code == REROUTE:
        assert _mark(context) == wanted_mark


@pytest.mark.parametrize("pod", PODS)
@pytest.mark.parametrize("target", TARGETS)
def test_encap_sends_what_the_oracle_sends_to_a_tunnel_and_drops_the_rest(
    programs: dict[str, int], pod: str, target: str
) -> None:
    code, _, context = bpf.run_program(programs["encap"], _packet(pod, target), _context(marks.STEER))
    answer = decisions.classify(_state(), pod, int(ipaddress.IPv4Address(target)))
    if answer.kind is decisions.Kind.TUNNEL:
        assert (code, _mark(context)) == (TCX_NEXT, 0)
    else:
        assert code == DROP


@pytest.mark.parametrize("mark", [0, marks.RECLASS, marks.REPLY, marks.mark_of(77), 0xC0000000])
def test_encap_drops_what_nobody_marked_for_the_tunnel(programs: dict[str, int], mark: int) -> None:
    code, _, _ = bpf.run_program(programs["encap"], _packet(PODS[0], TARGETS[0]), _context(mark))
    assert code == DROP


def test_decap_drops_what_came_by_no_tunnel(programs: dict[str, int]) -> None:
    code, _, _ = bpf.run_program(programs["decap"], _packet(PODS[0], TARGETS[0]), _context(0))
    assert code == DROP


def test_a_packet_that_is_not_ipv4_is_dropped_by_encap(programs: dict[str, int]) -> None:
    frame = b"\x02" * 12 + b"\x08\x06" + bytes(46)
    code, _, _ = bpf.run_program(programs["encap"], frame, _context(marks.STEER))
    assert code == DROP


_TWINS = {
    "endpoint_key": layout.ADDRESS,
    "endpoint": layout.ENDPOINT,
    "route_key": layout.ROUTE_KEY,
    "route": layout.ROUTE,
    "path_key": layout.PATH_KEY,
    "path": layout.PATH,
    "peer_key": layout.ADDRESS,
    "returning": layout.ADDRESS,
    "meta": layout.META,
    "remembered_key": layout.REMEMBERED_KEY,
    "remembered": layout.REMEMBERED,
}
_FIELDS = {
    "endpoint": [("set", 0), ("bucket", 8), ("pad", 12)],
    "route_key": [("prefixlen", 0), ("set_high", 4), ("set_low", 8), ("address", 12)],
    "route": [("group", 0), ("action", 8), ("pad", 12)],
    "path_key": [("group", 0), ("bucket", 8), ("pad", 12)],
    "path": [("gateway", 0), ("slot", 4), ("flags", 8)],
    "meta": [("layout", 0), ("encap_id", 4), ("decap_id", 8), ("classify_id", 12), ("object_hash", 16)],
}


@pytest.fixture(scope="module")
def types(_machine: None) -> list[dict[str, object]]:
    dump = subprocess.run(
        ["bpftool", "-j", "btf", "dump", "file", str(rigs.OBJECT)], capture_output=True, text=True, check=True
    )
    found: list[dict[str, object]] = json.loads(dump.stdout)["types"]
    return found


def _struct(types: list[dict[str, object]], name: str) -> dict[str, object]:
    return next(each for each in types if each["kind"] == "STRUCT" and each["name"] == name)


@pytest.mark.parametrize("name", sorted(_TWINS))
def test_a_struct_is_as_long_as_its_twin(types: list[dict[str, object]], name: str) -> None:
    assert _struct(types, name)["size"] == _TWINS[name].size


@pytest.mark.parametrize("name", sorted(_FIELDS))
def test_a_structs_fields_are_where_its_twin_puts_them(types: list[dict[str, object]], name: str) -> None:
    members = _struct(types, name)["members"]
    assert isinstance(members, list)
    assert [(each["name"], each["bits_offset"] // 8) for each in members] == _FIELDS[name]


def test_counters_are_named_in_the_order_of_the_enum(types: list[dict[str, object]]) -> None:
    names = next(each for each in types if each["kind"] == "ENUM" and each["name"] == "counter")["values"]
    assert isinstance(names, list)
    listed = [each["name"].lower().removeprefix("count_") for each in names]
    assert listed == [*layout.COUNTERS, "counters"]


def test_constants_of_the_header_are_pythons() -> None:
    header = (pathlib.Path(rigs.ROOT) / "services/programmer/bpf/ebbgate.h").read_text()
    words = [line.split()[1:3] for line in header.splitlines() if line.startswith("#define")]
    defined = {words[0]: int(words[1], 0) for words in words if len(words) == 2}
    assert defined["EBBGATE_LAYOUT"] == layout.LAYOUT
    assert defined["MARK_MASK"] == marks.MASK
    assert (defined["MARK_STEER"], defined["MARK_RECLASS"], defined["MARK_REPLY"]) == (1, 2, 3)
    assert defined["SLOT_MIN"] == rows.SLOT_MIN
    assert defined["PATH_LOCAL"] == layout.PATH_LOCAL
