"""The image of all pods: an OCI archive made of this machine's files, without an engine and without a
registry.

It holds a shell, curl and a few tools with the libraries they are linked to, and `pause`, which is also the
sandbox of each pod. Its reference is REFERENCE; nodes import it, and nobody pulls (`imagePullPolicy: Never`).
"""

import io
import pathlib
import shutil
import subprocess
import tarfile
from collections.abc import Iterator

from ebbgate_lab import archives

REFERENCE = "ebbgate.io/lab/pod:1"
PROGRAMS = ("sh", "cat", "curl", "date", "env", "hostname", "ip", "ls", "sleep", "ss")
SOURCE = pathlib.Path(__file__).with_name("pause.c")
PASSWD = "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"


def make(archive: pathlib.Path) -> None:
    """Write the image to `archive`, what `ctr images import` takes."""
    pause = archive.with_name("pause")
    compiler = shutil.which("cc") or "clang"
    subprocess.run([compiler, "-static", "-Os", "-Wall", "-Werror", "-o", pause, SOURCE], check=True)
    files = {"/pause": pause, **dict(_programs())}
    config = {"Entrypoint": ["/pause"], "Env": ["PATH=/bin"]}
    archives.write(archive, REFERENCE, [_layer(files)], config)


def _programs() -> Iterator[tuple[str, pathlib.Path]]:
    """Path in the image → file here: programs in /bin, libraries where the loader looks for them."""
    for name in PROGRAMS:
        found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
        if not found:
            raise FileNotFoundError(f"{name}: needed for the image of pods")
        yield f"/bin/{name}", pathlib.Path(found)
        for library in _libraries(found):
            yield library, pathlib.Path(library)


def _libraries(program: str) -> list[str]:
    """What `program` is linked to: the absolute paths in what ldd prints."""
    listing = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    return [word for word in listing.split() if word.startswith("/")]


def _layer(files: dict[str, pathlib.Path]) -> bytes:
    text = io.BytesIO()
    with tarfile.open(fileobj=text, mode="w", dereference=True) as tar:
        for path, file in sorted(files.items()):
            tar.add(file.resolve(), arcname=path.lstrip("/"), recursive=False, filter=_roots)
        for path, content in (("etc/passwd", PASSWD), ("etc/group", "root:x:0:\nnogroup:x:65534:\n")):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content.encode()))
        for folder in ("tmp", "proc", "sys", "dev", "run"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
    return text.getvalue()


def _roots(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
