"""The BPF object: loaded by libbpf, its maps and programs pinned. `attachments` puts them in place.

Pins live under `<pin path>/v<layout>/`: maps by name, programs by `<name>`, links by `<name>_link`. They and
the links outlive the programmer, which is what keeps traffic going while it isn't there. An existing map is
taken over by libbpf only if its form is the object's; another form is refused, and nothing is changed then.
"""

import contextlib
import ctypes
import ctypes.util
import errno
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterable

from ebbgate_programmer.core import layout
from ebbgate_programmer.io import bpf

_SIZES = {
    "endpoint": (layout.ADDRESS.size, layout.ENDPOINT.size),
    "route": (layout.ROUTE_KEY.size, layout.ROUTE.size),
    "path": (layout.PATH_KEY.size, layout.PATH.size),
    "cluster": (layout.CLUSTER_KEY.size, layout.NUMBER.size),
    "egress": (layout.ADDRESS.size, layout.NUMBER.size),
    "peer": (layout.ADDRESS.size, layout.NUMBER.size),
    "own": (layout.ADDRESS.size, layout.NUMBER.size),
    "direct": (layout.NUMBER.size, layout.DIRECT.size),
    "returns": (layout.ADDRESS.size, layout.ADDRESS.size),
    "counters": (layout.NUMBER.size, layout.COUNT.size),
    "traffic": (layout.TRAFFIC_KEY.size, layout.TRAFFIC.size),
    "slots": (layout.NUMBER.size, layout.TRAFFIC.size),
    "drops": (0, 0),
    "budget": (layout.NUMBER.size, layout.BUDGET.size),
    "meta": (layout.NUMBER.size, layout.META.size),
    "remembered": (layout.REMEMBERED_KEY.size, layout.REMEMBERED.size),
}
"""Map → sizes of key and value."""
MAPS = tuple(_SIZES)
PROGRAMS = ("encap", "decap", "classify", "guard", "take")
"""In the order of their ids in `meta`."""
_PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class Unloadable(Exception):
    """The object, or libbpf, or this kernel can't: the text says which and what to do."""


def object_hash(path: pathlib.Path) -> str:
    """Eight bytes in hex: short enough for a program's name in a route."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
    except OSError as error:
        raise Unloadable(f"no BPF object at {path}: build it with `make bpf` ({error.strerror})") from error


class Foreign(Exception):
    """What is pinned under our names isn't ours."""


class Pins:
    """What is pinned for one node. `root`: the pin path, on a bpf filesystem."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.directory = root / f"v{layout.LAYOUT}"

    def path(self, name: str) -> pathlib.Path:
        return self.directory / name

    def link(self, program: str) -> pathlib.Path:
        return self.directory / f"{program}_link"

    def uplink_link(self, program: str, index: int) -> pathlib.Path:
        """By index: bpffs takes no dots, and names of interfaces may hold some."""
        return self.link(f"{program}_{index}")

    def uplink_links(self, program: str) -> list[pathlib.Path]:
        return sorted(self.directory.glob(f"{program}_*_link"))

    def have_maps(self) -> bool:
        return all(self.path(name).exists() for name in MAPS)

    def check(self) -> None:
        """Raises Foreign if what is pinned under our names isn't ours."""
        strange = [name for name in MAPS if self.path(name).exists() and self._sizes(name) != _SIZES[name]]
        if strange:
            raise Foreign(
                f"{self.directory} holds maps of another form ({', '.join(strange)}), which "
                "no version of ours makes: the kernel stays as it is; run `clean`, or remove them by hand"
            )

    def others(self) -> frozenset[str]:
        """Names of the folders of other layouts."""
        return frozenset(each.name for each in self.root.glob("v*") if each != self.directory)

    def elsewhere(self, name: str) -> list[pathlib.Path]:
        """Where other layouts would have this pin."""
        return [self.root / other / name for other in sorted(self.others())]

    def _sizes(self, name: str) -> tuple[int, int]:
        with bpf.opened(self.path(name)) as descriptor:
            return bpf.map_form(descriptor)[1:3]

    def entries(self, name: str) -> dict[bytes, bytes]:
        with bpf.opened(self.path(name)) as descriptor:
            return bpf.entries(descriptor)

    def meta(self) -> tuple[list[int], int]:
        """Ids of PROGRAMS, and the object's hash: as the last `install` left them."""
        with bpf.opened(self.path("meta")) as descriptor:
            _, *ids, number = layout.META.unpack(bpf.look_up(descriptor, layout.FIRST, layout.META.size))
        return ids, number

    def loaded(self) -> str:
        """Hash of the object all of whose maps and programs are pinned; else empty."""
        if not self.have_maps():
            return ""
        ids, number = self.meta()
        try:
            pinned = [self.program_id(name) for name in PROGRAMS]
        except bpf.Refused as error:
            if error.errno != errno.ENOENT:
                raise
            return ""
        return f"{number:016x}" if pinned == ids else ""

    def program_id(self, name: str) -> int:
        with bpf.opened(self.path(name)) as descriptor:
            return bpf.program_id(descriptor)

    def remove(self) -> None:
        """Every pin of ours, of this layout and others; with them maps, links and programs."""
        self.remove_layouts(each.name for each in self.root.glob("v*"))
        with contextlib.suppress(OSError):
            self.root.rmdir()

    def remove_layouts(self, names: Iterable[str]) -> None:
        for name in names:
            for pinned in (self.root / name).iterdir():
                pinned.unlink()
            (self.root / name).rmdir()


def load(pins: Pins, source: pathlib.Path) -> None:
    """Maps and programs of `source` pinned, and then written down. What a version of another layout remembers
    in maps of the same form is taken over.
    """
    pins.directory.mkdir(parents=True, exist_ok=True)
    descriptors = _load(pins, source)
    try:
        for name in _CARRIED:
            _carry_over(pins, name)
        ids = [bpf.program_id(descriptors[name]) for name in PROGRAMS]
        number = int(object_hash(source), 16)
        with bpf.opened(pins.path("meta")) as descriptor:
            bpf.put(descriptor, layout.FIRST, layout.META.pack(layout.LAYOUT, *ids, number))
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)


_CARRIED = ("returns", "remembered")
"""Not made from rows: where answers go, and settings as they were before us."""


def _carry_over(pins: Pins, name: str) -> None:
    for other in pins.others():
        if not (old := pins.root / other / name).exists():
            continue
        with bpf.opened(old) as source, bpf.opened(pins.path(name)) as target:
            if bpf.map_form(source)[:3] == bpf.map_form(target)[:3]:
                for key, value in bpf.entries(source).items():
                    bpf.put(target, key, value)


def _load(pins: Pins, source: pathlib.Path) -> dict[str, int]:
    """Descriptors of the loaded programs, pinned; the caller closes them."""
    library = libbpf()
    handle = library.bpf_object__open_file(os.fsencode(source), None)
    if not handle:
        raise Unloadable(f"{source} isn't a BPF object: {os.strerror(ctypes.get_errno())}")
    try:
        for name in MAPS:
            found = library.bpf_object__find_map_by_name(handle, name.encode())
            _check(library.bpf_map__set_pin_path(found, os.fsencode(pins.path(name))), f"name map {name}")
        _check(library.bpf_object__load(handle), f"load {source.name} (maps in {pins.directory})")
        return {name: _keep(library, handle, pins.path(name)) for name in PROGRAMS}
    finally:
        library.bpf_object__close(handle)


def _keep(library: ctypes.CDLL, handle: int, pinned: pathlib.Path) -> int:
    program = library.bpf_object__find_program_by_name(handle, pinned.name.encode())
    descriptor = os.dup(library.bpf_program__fd(program))
    pinned.unlink(missing_ok=True)
    bpf.pin(descriptor, pinned)
    return descriptor


def _check(code: int, verb: str) -> None:
    if code < 0:
        hint = ": a pinned map has another layout" if -code == errno.EINVAL else ""
        raise bpf.Refused(-code, f"{verb}: {os.strerror(-code)}{hint}")


@functools.cache
def libbpf() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise Unloadable("libbpf 1 isn't installed (Debian: libbpf1)") from error
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    _declare(library.bpf_object__open_file, pointer, text, pointer)
    _declare(library.bpf_object__find_map_by_name, pointer, pointer, text)
    _declare(library.bpf_object__find_program_by_name, pointer, pointer, text)
    _declare(library.bpf_map__set_pin_path, number, pointer, text)
    _declare(library.bpf_object__load, number, pointer)
    _declare(library.bpf_object__close, None, pointer)
    _declare(library.bpf_program__fd, number, pointer)
    _declare(library.ring_buffer__new, pointer, number, pointer, pointer, pointer)
    _declare(library.ring_buffer__epoll_fd, number, pointer)
    _declare(library.ring_buffer__consume, number, pointer)
    _declare(library.ring_buffer__free, None, pointer)
    # What it has to say it says on stderr, in the middle of our JSON lines; our exceptions carry the reason.
    library.libbpf_set_print(_SILENT)
    return library


def _declare(function: Callable[..., object], answer: object, *arguments: object) -> None:
    function.restype = answer  # type: ignore[attr-defined]
    function.argtypes = arguments  # type: ignore[attr-defined]


_SILENT = _PRINT(lambda level, text, arguments: 0)
