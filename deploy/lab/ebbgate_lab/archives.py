"""Images as OCI archives, which `ctr images import` and `docker load` take: written without an engine.

An archive is a tar of JSON documents and layers, each named by its own digest. Layers are tars.
"""

import gzip
import hashlib
import io
import json
import pathlib
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

_MEDIA = "application/vnd.oci.image"


def write(
    archive: pathlib.Path,
    reference: str,
    layers: Sequence[bytes],
    config: Mapping[str, Any],
    *,
    gzipped: bool = True,
) -> None:
    """`reference`: NAME:TAG. `config`: what is run, how, and what it says of itself, as OCI has it."""
    blobs: dict[str, bytes] = {}

    def blob(kind: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": f"{_MEDIA}.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    def document(kind: str, content: object) -> dict[str, Any]:
        return blob(kind, json.dumps(content).encode())

    def layer(content: bytes) -> dict[str, Any]:
        if not gzipped:
            return blob("layer.v1.tar", content)
        return blob("layer.v1.tar+gzip", gzip.compress(content, compresslevel=1, mtime=0))

    packed = [layer(each) for each in layers]
    described = document("config.v1+json", _described(layers, config))
    manifest = {"schemaVersion": 2, "mediaType": f"{_MEDIA}.manifest.v1+json"}
    entry = document("manifest.v1+json", manifest | {"config": described, "layers": packed})
    tag = reference.rpartition(":")[2]
    entry["annotations"] = {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": tag}
    with tarfile.open(archive, "w") as tar:
        add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        add(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
        for digest, content in blobs.items():
            add(tar, f"blobs/sha256/{digest}", content)


def _described(layers: Sequence[bytes], config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "architecture": _architecture(),
        "os": "linux",
        "config": config,
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in layers],
        },
    }


def _architecture() -> str:
    machine = subprocess.run(["uname", "-m"], check=True, capture_output=True, text=True).stdout.strip()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
