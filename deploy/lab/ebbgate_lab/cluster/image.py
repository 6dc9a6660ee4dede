"""The image of all pods: an OCI archive made of this machine's files, without an engine and without a
registry.

It holds a shell, curl and a few tools with the libraries they are linked to, and `pause`, which is also the
sandbox of each pod. Its reference is REFERENCE; nodes import it, and nobody pulls (`imagePullPolicy: Never`).
"""

import gzip
import hashlib
import io
import json
import pathlib
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from typing import Any

REFERENCE = "ebbgate.io/lab/pod:1"
PROGRAMS = ("sh", "cat", "curl", "date", "env", "hostname", "ip", "ls", "sleep", "ss")
SOURCE = pathlib.Path(__file__).with_name("pause.c")
PASSWD = "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
_MEDIA = "application/vnd.oci.image"


def make(archive: pathlib.Path) -> None:
    """Write the image to `archive`, what `ctr images import` takes."""
    pause = archive.with_name("pause")
    compiler = shutil.which("cc") or "clang"
    subprocess.run([compiler, "-static", "-Os", "-Wall", "-Werror", "-o", pause, SOURCE], check=True)
    files = {"/pause": pause, **dict(_programs())}
    _write(archive, _layer(files))


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


def _write(archive: pathlib.Path, layer: bytes) -> None:
    blobs: dict[str, bytes] = {}

    def blob(kind: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": f"{_MEDIA}.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    def document(kind: str, content: object) -> dict[str, Any]:
        return blob(kind, json.dumps(content).encode())

    packed = blob("layer.v1.tar+gzip", gzip.compress(layer, compresslevel=1, mtime=0))
    config = document("config.v1+json", _config(layer))
    manifest = {"schemaVersion": 2, "mediaType": f"{_MEDIA}.manifest.v1+json"}
    entry = document("manifest.v1+json", manifest | {"config": config, "layers": [packed]})
    entry["annotations"] = {"io.containerd.image.name": REFERENCE, "org.opencontainers.image.ref.name": "1"}
    with tarfile.open(archive, "w") as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _add(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
        for digest, content in blobs.items():
            _add(tar, f"blobs/sha256/{digest}", content)


def _config(layer: bytes) -> dict[str, Any]:
    return {
        "architecture": _architecture(),
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }


def _architecture() -> str:
    machine = subprocess.run(["uname", "-m"], check=True, capture_output=True, text=True).stdout.strip()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
