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
from collections.abc import Iterator

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


def look_up(descriptor: int, key: bytes, value_size: int) -> bytes:
    key_buffer, value_buffer = ctypes.create_string_buffer(key), ctypes.create_string_buffer(value_size)
    _element(_LOOKUP, descriptor, (ctypes.addressof(key_buffer), ctypes.addressof(value_buffer)))
    return value_buffer.raw


def _element(command: int, descriptor: int, addresses: tuple[int, int]) -> None:
    names = {_NEXT_KEY: "walk", _LOOKUP: "look up in", _UPDATE: "write to", _DELETE: "remove from"}
    call(command, struct.pack("=IIQQQ", descriptor, 0, *addresses, 0), f"{names[command]} a map")


def entries(descriptor: int, *, copies: int = 1) -> dict[bytes, bytes]:
    """All of a hash or LPM map. Not a snapshot: its one writer is who reads it.

    `copies`: how many values there are for a key, in a map with one for each CPU. By batches, as that is far
    faster than one by one; but LPM maps can't before 5.13.
    """
    _, key_size, value_size, _ = map_form(descriptor)
    sizes = key_size, value_size * copies
    try:
        return _in_batches(descriptor, sizes)
    except Refused as error:
        if error.errno != _ENOTSUPP:
            raise
        return dict(_one_by_one(descriptor, sizes))


def _one_by_one(descriptor: int, sizes: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    key_size, value_size = sizes
    key, following = ctypes.create_string_buffer(key_size), ctypes.create_string_buffer(key_size)
    here = 0
    while True:
        try:
            _element(_NEXT_KEY, descriptor, (here, ctypes.addressof(following)))
        except Refused as error:
            if error.errno != errno.ENOENT:
                raise
            return
        yield following.raw, look_up(descriptor, following.raw, value_size)
        ctypes.memmove(key, following, key_size)
        here = ctypes.addressof(key)


def _in_batches(descriptor: int, sizes: tuple[int, int]) -> dict[bytes, bytes]:
    key_size, value_size = sizes
    found: dict[bytes, bytes] = {}
    keys = ctypes.create_string_buffer(BATCH * key_size)
    values = ctypes.create_string_buffer(BATCH * value_size)
    # The cursor is opaque: 4 bytes for hash maps, a key for tries; as long as the longer is enough.
    cursor, here = ctypes.create_string_buffer(max(key_size, 8)), 0
    while True:
        count, more = _batch(descriptor, (here, ctypes.addressof(cursor)), (keys, values))
        for place in range(count):
            key = keys.raw[place * key_size : (place + 1) * key_size]
            found[key] = values.raw[place * value_size : (place + 1) * value_size]
        if not more:
            return found
        here = ctypes.addressof(cursor)


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
    return int(struct.unpack_from("=I", attributes, 32)[0]), more


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
