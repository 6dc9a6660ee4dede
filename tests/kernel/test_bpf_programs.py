"""The real BPF programs on a table of packets, against the oracle; and the C structs against their twins."""

import ipaddress
import json
import os
import pathlib
import struct
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from ebbgate_bus.contracts import rows
from ebbgate_lab import topology
from ebbgate_programmer.core import addresses, changes, decisions, desired, layout, lowering, marks, ordering
from ebbgate_programmer.io import bpf, kernel, objects
from tests.kernel import rig as rigs

REROUTE, DROP = 128, 2
TCX_NEXT = 0xFFFFFFFF
PODS = ("10.244.1.10", "10.244.1.11", "10.244.1.12", "10.244.1.13", "fd00::10", "fd00::11", "fd00::13")
TARGETS = (
    "10.168.60.13",
    "192.0.2.7",
    "192.0.2.9",
    "198.51.100.1",
    "203.0.113.5",
    "8.8.8.8",
    "255.255.255.255",
    "2600::1",
    "2001:db8::1",
    "2001:db8:9::1",
    "fd00:1::1",
    "ffff::1",
)
PACKETS = [(pod, target) for pod in PODS for target in TARGETS if (":" in pod) == (":" in target)]
STEER = rows.Action.STEER
TWO = (rows.Path("node2", "10.168.60.12", 77), rows.Path("node1", "10.168.60.11", 4095))
PLAN = desired.Desired(
    node="node1",
    endpoints=(
        rows.Endpoint(ip=PODS[0], set="s1", bucket=0, pod="default/a"),
        rows.Endpoint(ip=PODS[1], set="s1", bucket=1, pod="default/b"),
        rows.Endpoint(ip=PODS[2], set="s2", bucket=2, pod="default/c"),
        rows.Endpoint(ip=PODS[4], set="s1", bucket=0, pod="default/a"),
        rows.Endpoint(ip=PODS[5], set="s1", bucket=1, pod="default/b"),
    ),
    sets={
        "s1": (
            rows.Route("0.0.0.0/0", STEER, "uid-1", "p"),
            rows.Route("192.0.2.0/24", rows.Action.EXCLUDE, "uid-1", "p"),
            rows.Route("192.0.2.9/32", STEER, "uid-2", "q"),
            rows.Route("203.0.113.0/24", rows.Action.DROP, "", "r"),
            rows.Route("2600::/12", STEER, "uid-1", "p"),
            rows.Route("2001:db8::/32", rows.Action.EXCLUDE, "uid-1", "p"),
            rows.Route("2001:db8:9::/48", STEER, "uid-2", "q"),
            rows.Route("ffff::/16", rows.Action.DROP, "", "r"),
        ),
        # A default route of one family says nothing of the other.
        "s2": (rows.Route("198.51.100.0/25", STEER, "uid-1", "p"), rows.Route("::/0", STEER, "uid-1", "p")),
    },
    groups={
        "uid-1": rows.Group(
            policy="p",
            ipv4=rows.Paths(paths=TWO, buckets=(0, 1, *[0] * 62)),
            ipv6=rows.Paths(
                paths=(rows.Path("node2", "10.168.60.12", 78), rows.Path("node1", "10.168.60.11", 4094)),
                buckets=(0, 1, *[0] * 62),
            ),
        ),
        "uid-2": rows.Group(
            policy="q", ipv4=rows.Paths(paths=(rows.Path("node2", "10.168.60.12", 0),), buckets=(0,) * 64)
        ),
    },
    egress={
        4095: rows.Egress(egress_ip="10.168.60.11", interface="eth0"),
        4094: rows.Egress(egress_ip="2001:db8:f::1", interface="eth0"),
    },
    peers=("10.168.60.12",),
    cluster=("10.244.0.0/16", "fd00:1::/48"),
)


@pytest.fixture(scope="module")
def loaded(_machine: None) -> Iterator[kernel.Kernel]:
    """The programs, with PLAN in their maps; in a namespace of its own."""
    lab = topology.Topology(rigs.prefix("m"), hosts=topology.HOSTS[1:2], pods=())
    lab.make()
    pins = rigs.BPFFS / f"{rigs.prefix('m')}test"
    with lab.entered("node1"):
        made = kernel.Kernel(pins, rigs.OBJECT)
        state = lowering.lower(PLAN, made.environment("node1", 19021)).state
        for change in ordering.diff(state, made.read(state.sysctls), ()):
            if not isinstance(change, changes.SetFirewall | changes.UpdateSets):
                made.apply(change)
        yield made
        made.clean()
        made.close()
    lab.remove()


@pytest.fixture(scope="module")
def programs(loaded: kernel.Kernel) -> Iterator[dict[str, int]]:
    """Descriptors of the loaded programs."""
    found = {name: bpf.get(loaded.pins.path(name)) for name in objects.PROGRAMS}
    yield found
    for descriptor in found.values():
        os.close(descriptor)


def _state() -> decisions.Tables:
    return decisions.Tables(lowering.lower(PLAN, lowering.Environment(node="node1")).state)


def _packet(source: str, destination: str) -> bytes:
    """A frame with a UDP datagram without content."""
    both = b"".join(ipaddress.ip_address(each).packed for each in (source, destination))
    if ":" in source:
        kind, header = 0x86DD, struct.pack(">IHBB", 6 << 28, 8, 17, 64) + both
    else:
        kind, header = 0x0800, struct.pack(">BBHHHBBH", 0x45, 0, 28, 0, 0, 64, 17, 0) + both
    return b"\x02" * 12 + struct.pack(">H", kind) + header + struct.pack(">HHHH", 1000, 2000, 8, 0)


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
        decisions.Kind.UNTOUCHED: marks.PASSED,
        decisions.Kind.TUNNEL: marks.STEER,
        decisions.Kind.LOCAL: answer.slot,
    }
    return REROUTE, others | marks.mark_of(field[answer.kind])


def _answer(pod: str, target: str) -> decisions.Decision:
    return decisions.classify(_state(), pod, addresses.number(target))


@pytest.mark.parametrize(("pod", "target"), PACKETS)
def test_classify_agrees_with_the_oracle(programs: dict[str, int], pod: str, target: str) -> None:
    mark = 0xC0000000 | marks.mark_of(marks.RECLASS)
    code, _, context = bpf.run_program(programs["classify"], _packet(pod, target), _context(mark))
    wanted_code, wanted_mark = _wanted(_answer(pod, target), mark)
    assert code == wanted_code
    if code == REROUTE:
        assert _mark(context) == wanted_mark


def test_the_table_has_every_answer_in_both_families() -> None:
    answers = {(":" in pod, _answer(pod, target).kind) for pod, target in PACKETS}
    assert answers == {(six, kind) for six in (False, True) for kind in decisions.Kind}


@pytest.mark.parametrize(("pod", "target"), PACKETS)
def test_encap_sends_what_the_oracle_sends_to_a_tunnel_and_drops_the_rest(
    programs: dict[str, int], pod: str, target: str
) -> None:
    code, _, context = bpf.run_program(programs["encap"], _packet(pod, target), _context(marks.STEER))
    if _answer(pod, target).kind is decisions.Kind.TUNNEL:
        assert (code, _mark(context)) == (TCX_NEXT, 0)
    else:
        assert code == DROP


@pytest.mark.parametrize("mark", [0, marks.RECLASS, marks.REPLY, marks.mark_of(77), 0xC0000000])
@pytest.mark.parametrize("packet", [PACKETS[0], PACKETS[-1]])
def test_encap_drops_what_nobody_marked_for_the_tunnel(
    programs: dict[str, int], mark: int, packet: tuple[str, str]
) -> None:
    code, _, _ = bpf.run_program(programs["encap"], _packet(*packet), _context(mark))
    assert code == DROP


def test_decap_drops_what_came_by_no_tunnel(programs: dict[str, int]) -> None:
    code, _, _ = bpf.run_program(programs["decap"], _packet(PODS[0], TARGETS[0]), _context(0))
    assert code == DROP


def test_a_packet_that_is_not_ip_is_dropped_by_encap_and_passes_the_guard(programs: dict[str, int]) -> None:
    frame = b"\x02" * 12 + b"\x08\x06" + bytes(46)
    assert bpf.run_program(programs["encap"], frame, _context(marks.STEER))[0] == DROP
    assert bpf.run_program(programs["guard"], frame, _context(0))[0] == TCX_NEXT


@pytest.mark.parametrize(
    ("source", "target", "field", "passes"),
    [
        # Nobody marked it: only what isn't a covered pod's, or stays in the cluster.
        ("10.244.1.10", "8.8.8.8", 0, False),
        ("10.244.1.10", "192.0.2.7", 0, False),
        ("10.244.1.10", "10.244.7.7", 0, True),
        ("10.244.1.10", "169.254.169.254", 0, True),
        ("10.244.1.13", "8.8.8.8", 0, True),
        ("10.168.60.11", "8.8.8.8", 0, True),
        ("fd00::10", "2600::1", 0, False),
        ("fd00::10", "fd00:1::1", 0, True),
        ("fd00::10", "fe80::1", 0, True),
        ("fd00::13", "2600::1", 0, True),
        # Looked at, and left alone.
        ("10.244.1.10", "192.0.2.7", marks.PASSED, True),
        ("fd00::10", "2001:db8::1", marks.PASSED, True),
        # Never steered, whatever stands where the mark is.
        ("10.168.60.11", "224.0.0.22", 77, True),
        ("10.168.60.11", "224.0.0.22", marks.REPLY, True),
        ("fe80::1", "ff02::16", 3000, True),
        # To go elsewhere.
        ("10.244.1.10", "8.8.8.8", marks.STEER, False),
        ("10.244.1.10", "8.8.8.8", marks.RECLASS, False),
        ("8.8.8.8", "10.244.1.10", marks.REPLY, False),
        ("fd00::10", "2600::1", marks.STEER, False),
        # By a slot or an uplink's class: translated, or not at all.
        ("10.168.60.11", "8.8.8.8", 4095, True),
        ("10.244.1.11", "8.8.8.8", 4095, False),
        ("10.168.60.12", "8.8.8.8", 4095, False),
        ("10.168.60.11", "8.8.8.8", 5, True),
        ("10.244.2.10", "8.8.8.8", 5, False),
        ("2001:db8:f::1", "2600::1", 4094, True),
        ("fd00::11", "2600::1", 4094, False),
    ],
)
def test_the_guard_lets_out_only_what_may_leave(
    programs: dict[str, int], source: str, target: str, field: int, passes: bool
) -> None:
    others = 0xC0000000
    context = _context(others | marks.mark_of(field))
    code, _, after = bpf.run_program(programs["guard"], _packet(source, target), context)
    assert code == (TCX_NEXT if passes else DROP)
    if passes:
        assert _mark(after) == others


def test_what_is_dropped_is_counted_by_reason_and_policy_and_told(
    loaded: kernel.Kernel, programs: dict[str, int]
) -> None:
    before = loaded.counted(()).counters
    for packet in (("10.244.1.13", "8.8.8.8"), ("10.244.1.10", "192.0.2.9"), ("fd00::10", "2001:db8:9::1")):
        assert bpf.run_program(programs["classify"], _packet(*packet), _context(0))[0] == DROP
    counted = loaded.counted(())
    after = counted.counters
    gained = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert gained == {"drop_no_endpoint": 1, "drop_no_egress_ip": 1, "drop_no_path": 1}
    of_group = (lowering.group_id("uid-2", "ipv4"), layout.COUNTERS.index("drop_no_egress_ip"))
    assert counted.groups[of_group].packets >= 1


@pytest.mark.parametrize("name", ["route", "cluster", "endpoint", "traffic"])
def test_a_map_that_an_older_kernel_reads_in_no_batches_is_read_one_by_one(
    loaded: kernel.Kernel, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    original, lookup_batch, unsupported = bpf.call, 24, 524

    def older(command: int, *arguments: Any) -> int:
        if command == lookup_batch:
            raise bpf.Refused(unsupported, "no batches here")
        return original(command, *arguments)

    with bpf.opened(loaded.pins.path(name)) as descriptor:
        copies = (os.cpu_count() or 1) if name == "traffic" else 1
        wanted = bpf.entries(descriptor, copies=copies)
        monkeypatch.setattr(bpf, "call", older)
        assert bpf.entries(descriptor, copies=copies) == wanted
        assert wanted


_TWINS = {
    "address": layout.ADDRESS,
    "endpoint": layout.ENDPOINT,
    "route_key": layout.ROUTE_KEY,
    "route": layout.ROUTE,
    "path_key": layout.PATH_KEY,
    "path": layout.PATH,
    "cluster_key": layout.CLUSTER_KEY,
    "direct": layout.DIRECT,
    "meta": layout.META,
    "remembered_key": layout.REMEMBERED_KEY,
    "remembered": layout.REMEMBERED,
    "traffic_key": layout.TRAFFIC_KEY,
    "traffic": layout.TRAFFIC,
    "drop": layout.DROP,
    "budget": layout.BUDGET,
}
_FIELDS = {
    "endpoint": [("set", 0), ("bucket", 8), ("pad", 12)],
    "route_key": [("prefixlen", 0), ("set_high", 4), ("set_low", 8), ("destination", 12)],
    "route": [("group", 0), ("action", 8), ("pad", 12)],
    "path_key": [("group", 0), ("bucket", 8), ("pad", 12)],
    "path": [("gateway", 0), ("slot", 16), ("flags", 20)],
    "cluster_key": [("prefixlen", 0), ("destination", 4)],
    "direct": [("device", 0), ("port", 4), ("family", 6), ("pad", 7)],
    "meta": [
        ("layout", 0),
        ("encap_id", 4),
        ("decap_id", 8),
        ("classify_id", 12),
        ("guard_id", 16),
        ("take_id", 20),
        ("object_hash", 24),
    ],
    "traffic_key": [("group", 0), ("counter", 8), ("pad", 12)],
    "traffic": [("packets", 0), ("bytes", 8)],
    "drop": [
        ("group", 0),
        ("counter", 8),
        ("protocol", 12),
        ("source", 16),
        ("destination", 32),
        ("source_port", 48),
        ("destination_port", 50),
        ("pad", 52),
    ],
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
    fields = ("STEER", "RECLASS", "REPLY", "PASSED")
    assert [defined[f"MARK_{name}"] for name in fields] == [getattr(marks, name) for name in fields]
    assert (defined["SLOT_MIN"], defined["SLOT_MAX"]) == (rows.SLOT_MIN, rows.SLOT_MAX)
    assert defined["CLASS_MIN"] == marks.CLASSES[0]
    assert defined["PATH_LOCAL"] == layout.PATH_LOCAL
    assert defined["TRAFFIC_CONNECTIONS"] == layout.CONNECTIONS
