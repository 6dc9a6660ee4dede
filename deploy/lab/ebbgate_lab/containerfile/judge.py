"""What of an image of the Containerfile isn't as `make images` makes it.

What Ebbgate brings must be the same: Python packages, commands, each file. Of Debian's part each file must be
there that `make images` has; its content may differ, as packages may be of another day, and there may be
more, as a base image has apt, dpkg and Perl. Both must trust the same certificate authorities, and run alike.
"""

import dataclasses
import hashlib
import importlib.metadata
import os
import pathlib
import stat
import struct
from collections.abc import Iterator, Mapping
from typing import Any

OURS = ("usr/local", "usr/lib/ebbgate")
OWN_CONTENT = (".pyc", "/RECORD")
"""Ends of paths whose content may differ. Bytecode has the time of its source in it; RECORD lists scripts,
with the folder of the pip that made them, that are in neither image."""
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
OF_THE_BASE = ("Cmd",)
"""A shell; nothing that the chart runs is without a command of its own."""
OF_THE_ENGINE = ("io.buildah.version",)
IN_HOME = {".bashrc", ".profile"}
"""Debian's files in root's home folder. A build saw this machine's settings there, which mustn't stay."""


@dataclasses.dataclass(frozen=True)
class Image:
    """`root`: its file system. `config`: as OCI has it."""

    root: pathlib.Path
    config: Mapping[str, Any]


def differences(made: Image, built: Image) -> Iterator[str]:
    """A line each. `made` is that of `make images`."""
    yield from _unlike("config", _config(made), _config(built))
    yield from _unlike("label", _labels(made), _labels(built))
    yield from _unlike("package", packages(made.root), packages(built.root))
    missing = set(_paths(made.root)) - set(_paths(built.root))
    yield from (f"missing: /{path}" for path in sorted(missing))
    there = {path: each for path, each in _ours(made.root).items() if path not in missing}
    yield from _unlike("file", there, _ours(built.root))
    if _certificates(made.root) != _certificates(built.root):
        yield f"/{CERTIFICATES}: other authorities"
    yield from (f"bytecode isn't its source's: {path}" for path in _stale(built.root))
    left = {path.name for path in (built.root / "root").iterdir()} - IN_HOME
    yield from (f"left by the build in root's home: {name}" for name in sorted(left))


def packages(root: pathlib.Path) -> dict[str, str]:
    """Python's, and their versions."""
    folders = [str(path) for path in root.glob("usr/local/lib/python3.*/dist-packages")]
    return {each.name: each.version for each in importlib.metadata.distributions(path=folders)}


def more(made: pathlib.Path, built: pathlib.Path) -> tuple[int, int]:
    """Files that only `built` has, and their bytes."""
    paths = [built / path for path in set(_paths(built)) - set(_paths(made))]
    sizes = [path.lstat().st_size for path in paths if stat.S_ISREG(path.lstat().st_mode)]
    return len(sizes), sum(sizes)


def _unlike(what: str, made: Mapping[str, object], built: Mapping[str, object]) -> Iterator[str]:
    for key in sorted(made.keys() | built.keys()):
        if made.get(key) != built.get(key):
            yield f"{what} {key}: {built.get(key)}, and by `make images`: {made.get(key)}"


def _config(image: Image) -> dict[str, object]:
    return {key: value for key, value in image.config.items() if key not in (*OF_THE_BASE, "Labels")}


def _labels(image: Image) -> dict[str, str]:
    return {key: value for key, value in image.config["Labels"].items() if key not in OF_THE_ENGINE}


def _ours(root: pathlib.Path) -> dict[str, str]:
    """File → mode, owner, group, content. Debian has more folders and links there (/usr/local/man)."""
    found = {}
    for path in _paths(root):
        status = (root / path).lstat()
        if path.startswith(OURS) and stat.S_ISREG(status.st_mode):
            content = "" if path.endswith(OWN_CONTENT) else _digest(root / path)
            found[path] = f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid} {content}"
    return found


def _digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _paths(root: pathlib.Path) -> Iterator[str]:
    """Of everything below, folders too, relative to `root`."""
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            yield os.path.relpath(os.path.join(folder, name), root)


def _certificates(root: pathlib.Path) -> set[str]:
    return set((root / CERTIFICATES).read_text().split("-----BEGIN CERTIFICATE-----\n"))


def _stale(root: pathlib.Path) -> Iterator[str]:
    """Bytecode that Python would set aside at each start: made of another source than is there.

    Its header since 3.7 (PEP 552): 4 bytes magic, 4 flags, 4 time of the source, 4 size of the source.
    """
    for path in (*root.glob("usr/lib/**/*.pyc"), *root.glob("usr/local/lib/**/*.pyc")):
        source = path.parents[1] / f"{path.name.partition('.')[0]}.py"
        if source.is_symlink():
            # Of Debian's sitecustomize, into /etc: from here that would be this machine's.
            continue
        status = source.stat()
        if struct.unpack("<3I", path.read_bytes()[4:16]) != (0, int(status.st_mtime), status.st_size):
            yield str(path.relative_to(root))
