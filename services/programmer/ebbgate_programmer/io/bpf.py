"""bpf(2): maps, pins, links, by the system call itself. The hands' finest finger.

libbpf is only needed to load the object (`objects`); all the rest is a few structs, and Debian's libbpf 1.1
can't attach tcx. Every call gets its attributes in one buffer of ATTR_SIZE zeroed bytes, which is what an
older kernel accepts as well. It knows maps by path and bytes by length, never what they mean.
"""

import contextlib
import ctypes
import errno
import os
import pathlib
import platform
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

BPF_FS_MAGIC = 0xCAFE4A11
ATTR_SIZE = 128
BATCH = 4096
"""Entries of one batch call: 160 KB at most."""

_SYSCALLS = {"x86_64": 321, "aarch64": 280}
_LOOKUP, _UPDATE, _DELETE, _NEXT_KEY = 1, 2, 3, 4
_OBJ_PIN, _OBJ_GET, _TEST_RUN = 6, 7, 10
_INFO_BY_FD, _PROG_QUERY = 15, 16
_LOOKUP_BATCH, _UPDATE_BATCH, _DELETE_BATCH = 24, 26, 27
_LINK_CREATE, _LINK_UPDATE = 28, 29
_ENOTSUPP = 524
"""The kernel's own: this kind of map doesn't know this command."""

TCX_INGRESS, TCX_EGRESS = 46, 47

_libc = ctypes.CDLL(None, use_errno=True)


class Refused(OSError):
    """The kernel's no to a bpf call; the text says which call and on what."""


def call(command: int, attributes: bytes | ctypes.Array[ctypes.c_char], what: str) -> int:
    """The system call. Raises Refused, naming `what`."""
    number = _SYSCALLS.get(platform.machine())
    if number is None:
        raise Refused(errno.ENOSYS, f"bpf(2) has no known number on {platform.machine()}")
    buffer = attributes
    if isinstance(buffer, bytes):
        buffer = ctypes.create_string_buffer(buffer.ljust(ATTR_SIZE, b"\0"), ATTR_SIZE)
    answer = int(_libc.syscall(number, command, buffer, ctypes.sizeof(buffer)))
    if answer < 0:
        code = ctypes.get_errno()
        raise Refused(code, f"{what}: {os.strerror(code)}")
    return answer


def is_mounted(path: pathlib.Path) -> bool:
    """Whether `path`, or the nearest of its parents that exists, lies on a bpf filesystem."""
    while not path.exists():
        path = path.parent
    buffer = ctypes.create_string_buffer(256)
    if _libc.statfs(os.fsencode(path), buffer) != 0:
        return False
    return int(struct.unpack_from("=q", buffer)[0]) == BPF_FS_MAGIC


def get(path: pathlib.Path) -> int:
    """A new file descriptor of what is pinned there. Raises Refused (ENOENT if nothing is)."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    return call(_OBJ_GET, struct.pack("=QII", ctypes.addressof(name), 0, 0), f"open {path}")


def close(descriptor: int) -> None:
    os.close(descriptor)


def pin(descriptor: int, path: pathlib.Path) -> None:
    name = ctypes.create_string_buffer(os.fsencode(path))
    call(_OBJ_PIN, struct.pack("=QII", ctypes.addressof(name), descriptor, 0), f"pin {path}")


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[int]:
    descriptor = get(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def info(descriptor: int, size: int, what: str) -> bytes:
    """The first `size` bytes of the kernel's description of a map, program or link."""
    buffer = ctypes.create_string_buffer(size)
    call(_INFO_BY_FD, struct.pack("=IIQ", descriptor, size, ctypes.addressof(buffer)), f"describe {what}")
    return buffer.raw


def map_form(descriptor: int) -> tuple[int, int, int, int]:
    """Type, key size, value size and capacity of a map."""
    kind, _, key, value, capacity = struct.unpack_from("=IIIII", info(descriptor, 80, "a map"))
    return kind, key, value, capacity


def program_id(descriptor: int) -> int:
    return int(struct.unpack_from("=II", info(descriptor, 16, "a program"))[1])


def link_target(descriptor: int) -> tuple[int, int, int]:
    """Program id, interface index (0 once the device is gone) and attach type of a tcx link."""
    _, _, program, _, index, kind = struct.unpack_from("=IIIIII", info(descriptor, 24, "a link"))
    return program, index, kind


def has_tcx() -> bool:
    """Whether this kernel attaches by tcx: asked about a device that doesn't exist, one without refuses the
    question itself.
    """
    try:
        call(_PROG_QUERY, struct.pack("=II", 0, TCX_INGRESS), "ask for tcx")
    except Refused as error:
        return error.errno != errno.EINVAL
    return True


def create_link(program: int, index: int, attach_type: int) -> int:
    """A tcx link (kernel 6.6); its descriptor keeps it until it is pinned."""
    attributes = struct.pack("=IIII", program, index, attach_type, 0)
    return call(_LINK_CREATE, attributes, "attach a program by tcx")


def update_link(link: int, program: int) -> None:
    """The link's program replaced in one step: no packet goes between."""
    call(_LINK_UPDATE, struct.pack("=IIII", link, program, 0, 0), "replace an attached program")


def put(descriptor: int, key: bytes, value: bytes) -> None:
    key_buffer, value_buffer = ctypes.create_string_buffer(key), ctypes.create_string_buffer(value)
    _element(_UPDATE, descriptor, (ctypes.addressof(key_buffer), ctypes.addressof(value_buffer)))


def remove(descriptor: int, key: bytes) -> None:
    """Absent afterwards; no error if it was."""
    key_buffer = ctypes.create_string_buffer(key)
    try:
        _element(_DELETE, descriptor, (ctypes.addressof(key_buffer), 0))
    except Refused as error:
        if error.errno != errno.ENOENT:
            raise


Pair = tuple[bytes, bytes]
"""A key and its value."""


def put_all(descriptor: int, pairs: Sequence[Pair]) -> list[tuple[int, str]]:
    """Written in this order, each or not: places of those that the kernel wouldn't take, and why."""
    refusals = []
    for place in _left(_UPDATE_BATCH, descriptor, pairs):
        try:
            put(descriptor, *pairs[place])
        except Refused as error:
            refusals.append((place, str(error.strerror)))
    return refusals


def remove_all(descriptor: int, keys: Sequence[bytes]) -> None:
    """Absent afterwards, taken out in this order; no error if they were."""
    for place in _left(_DELETE_BATCH, descriptor, [(key, b"") for key in keys]):
        remove(descriptor, keys[place])


def _left(command: int, descriptor: int, pairs: Sequence[Pair]) -> Iterator[int]:
    """Places of those that batches leave, each when it is its turn: the rest of a batch from the first one on
    that the kernel refuses (E2BIG, ENOENT), or all of it where a kernel or a map knows no batches.
    """
    for start in range(0, len(pairs), BATCH):
        chunk = pairs[start : start + BATCH]
        yield from range(start + write_batch(command, descriptor, chunk), start + len(chunk))


def write_batch(command: int, descriptor: int, pairs: Sequence[Pair]) -> int:
    """How many were done, in order. Why the next one wasn't is told by doing it alone."""
    keys, values = (ctypes.create_string_buffer(b"".join(parts)) for parts in zip(*pairs, strict=True))
    addresses = (ctypes.addressof(keys), ctypes.addressof(values))
    packed = struct.pack("=QQQQIIQQ", 0, 0, *addresses, len(pairs), descriptor, 0, 0)
    attributes = ctypes.create_string_buffer(packed.ljust(ATTR_SIZE, b"\0"), ATTR_SIZE)
    try:
        call(command, attributes, "write to a map")
    except Refused:
        # Left as it was, the count says that nothing was begun: an entry refused is one less at least.
        done = _count(attributes)
        return done if done < len(pairs) else 0
    return len(pairs)


def _count(attributes: ctypes.Array[ctypes.c_char]) -> int:
    return int(struct.unpack_from("=I", attributes, 32)[0])


def look_up(descriptor: int, key: bytes, value_size: int) -> bytes:
    key_buffer, value_buffer = ctypes.create_string_buffer(key), ctypes.create_string_buffer(value_size)
    _element(_LOOKUP, descriptor, (ctypes.addressof(key_buffer), ctypes.addressof(value_buffer)))
    return value_buffer.raw


def find(descriptor: int, key: bytes, value_size: int) -> bytes | None:
    """As `look_up`; None if there is no such key."""
    try:
        return look_up(descriptor, key, value_size)
    except Refused as error:
        if error.errno != errno.ENOENT:
            raise
        return None


def _element(command: int, descriptor: int, addresses: tuple[int, int]) -> None:
    names = {_NEXT_KEY: "walk", _LOOKUP: "look up in", _UPDATE: "write to", _DELETE: "remove from"}
    call(command, struct.pack("=IIQQQ", descriptor, 0, *addresses, 0), f"{names[command]} a map")


class Dump(NamedTuple):
    """All keys and all values of a map, each side by side: compared as it is, taken apart when it differs."""

    keys: bytes
    values: bytes
    number: int

    def pairs(self) -> Iterator[Pair]:
        if self.number:
            keys, values = (
                struct.iter_unpack(f"{len(side) // self.number}s", side) for side in (self.keys, self.values)
            )
            yield from ((key, value) for (key,), (value,) in zip(keys, values, strict=True))


def entries(descriptor: int, *, copies: int = 1) -> dict[bytes, bytes]:
    """As `dump`, taken apart."""
    return dict(dump(descriptor, copies=copies).pairs())


def dump(descriptor: int, *, copies: int = 1) -> Dump:
    """All of a hash or LPM map. Not a snapshot: its one writer is who reads it.

    `copies`: how many values there are for a key, in a map with one for each CPU. By batches, as that is far
    faster than one by one; but LPM maps can't before 5.13.
    """
    _, key_size, value_size, _ = map_form(descriptor)
    sizes = (key_size, value_size * copies)
    try:
        return _in_batches(descriptor, sizes)
    except Refused as error:
        if error.errno != _ENOTSUPP:
            raise
        return _one_by_one(descriptor, sizes)


def _one_by_one(descriptor: int, sizes: tuple[int, int]) -> Dump:
    key_size, value_size = sizes
    following = ctypes.create_string_buffer(key_size)
    found: tuple[list[bytes], list[bytes]] = ([], [])
    key = b""
    while _has_next(descriptor, key, following):
        key = following.raw
        found[0].append(key)
        found[1].append(look_up(descriptor, key, value_size))
    return Dump(b"".join(found[0]), b"".join(found[1]), len(found[0]))


def _has_next(descriptor: int, key: bytes, following: ctypes.Array[ctypes.c_char]) -> bool:
    """Whether there is a key after `key` (empty: any), and it in `following`."""
    here = ctypes.create_string_buffer(key, len(key)) if key else None
    try:
        _element(_NEXT_KEY, descriptor, (ctypes.addressof(here) if here else 0, ctypes.addressof(following)))
    except Refused as error:
        if error.errno != errno.ENOENT:
            raise
        return False
    return True


def _in_batches(descriptor: int, sizes: tuple[int, int]) -> Dump:
    buffers = tuple(ctypes.create_string_buffer(BATCH * size) for size in sizes)
    found: tuple[list[bytes], list[bytes]] = ([], [])
    # The cursor is opaque: 4 bytes for hash maps, a key for tries; as long as the longer is enough.
    cursor, here, total, more = ctypes.create_string_buffer(max(sizes[0], 8)), 0, 0, True
    while more:
        count, more = _batch(descriptor, (here, ctypes.addressof(cursor)), buffers)
        for side, buffer, size in zip(found, buffers, sizes, strict=True):
            side.append(ctypes.string_at(buffer, count * size))
        total, here = total + count, ctypes.addressof(cursor)
    return Dump(b"".join(found[0]), b"".join(found[1]), total)


def _batch(
    descriptor: int, cursors: tuple[int, int], buffers: tuple[ctypes.Array[ctypes.c_char], ...]
) -> tuple[int, bool]:
    """Entries read, and whether there are more."""
    addresses = [ctypes.addressof(buffer) for buffer in buffers]
    packed = struct.pack("=QQQQIIQQ", *cursors, *addresses, BATCH, descriptor, 0, 0)
    attributes = ctypes.create_string_buffer(packed.ljust(ATTR_SIZE, b"\0"), ATTR_SIZE)
    more = True
    try:
        call(_LOOKUP_BATCH, attributes, "read a map")
    except Refused as error:
        if error.errno != errno.ENOENT:
            raise
        more = False
    return _count(attributes), more


def run_program(program: int, packet: bytes, context: bytes = b"") -> tuple[int, bytes, bytes]:
    """BPF_PROG_TEST_RUN: return code, packet and context afterwards. For tests; touches no traffic."""
    data_in = ctypes.create_string_buffer(packet, len(packet))
    data_out = ctypes.create_string_buffer(len(packet) + 256)
    context_in = ctypes.create_string_buffer(context, len(context) or 1)
    context_out = ctypes.create_string_buffer(len(context) or 1)
    pointers = [ctypes.addressof(buffer) for buffer in (data_in, data_out, context_in, context_out)]
    packed = struct.pack(
        "=IIIIQQIIIIQQ",
        program, 0, len(packet), len(data_out), pointers[0], pointers[1], 1, 0,
        len(context), len(context), pointers[2] if context else 0, pointers[3] if context else 0,
    )  # fmt: skip
    attributes = ctypes.create_string_buffer(packed.ljust(ATTR_SIZE, b"\0"), ATTR_SIZE)
    call(_TEST_RUN, attributes, "run a program")
    code, _, size = struct.unpack_from("=III", attributes, 4)
    return code, data_out.raw[:size], context_out.raw
