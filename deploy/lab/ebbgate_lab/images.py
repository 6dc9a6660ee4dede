"""Ebbgate's images, made without an engine and without a registry, for the cluster's nodes to import.

What deploy/images/Containerfile makes on a base image is made here on nothing: the Debian (or Ubuntu)
packages of `IMAGE.packages` and what they depend on, as this machine's apt gives them, unpacked and never
configured; the rest is done by the same `assemble`. Debian's and Python's parts are kept over runs, in the
user's cache. Needs root: files in an image are root's.
"""

import argparse
import hashlib
import io
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator

from ebbgate_lab import archives

ROOT = pathlib.Path(__file__).parents[3]
RECIPES = ROOT / "deploy/images"
VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
REFERENCES = {
    "ebbgate": f"ebbgate.io/ebbgate:{VERSION}",
    "programmer": f"ebbgate.io/ebbgate-programmer:{VERSION}",
}
DESCRIPTIONS = {
    "ebbgate": "Egress gateway for Kubernetes on any CNI: watcher, resolver, command line",
    "programmer": "Egress gateway for Kubernetes on any CNI: makes a node's kernel obey",
}
LICENCES = {"ebbgate": "Apache-2.0", "programmer": "Apache-2.0 AND (GPL-2.0-only OR BSD-2-Clause)"}
USERS = {"ebbgate": "65532:65532", "programmer": "0:0"}
FORM = b"1"
"""Raised when what is kept over runs is made in another way."""
UNNEEDED = ("doc", "man", "locale", "info", "lintian", "bug", "pixmaps", "menu")
"""Folders of /usr/share that the slim base images don't have either."""
ETC = {
    "passwd": "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\nebbgate:x:65532:65532::/:/bin/sh\n",
    "group": "root:x:0:\nnogroup:x:65534:\nebbgate:x:65532:\n",
    "nsswitch.conf": "hosts: files dns\n",
}


def main() -> None:
    """Writes all images into the folder that is the only argument."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in REFERENCES:
        print(f"{make(name, folder)}: {REFERENCES[name]}")


def given_or_made(folder: pathlib.Path) -> list[pathlib.Path]:
    """Archives of all images: those in the folder that EBBGATE_IMAGES names, or else made in `folder`."""
    given = os.environ.get("EBBGATE_IMAGES")
    if given:
        return [pathlib.Path(given).resolve(strict=True) / f"{name}.tar" for name in REFERENCES]
    return [make(name, folder) for name in REFERENCES]


def make(name: str, folder: pathlib.Path) -> pathlib.Path:
    """The archive of one image, `folder`/NAME.tar."""
    base = _base(name)
    archive = folder / f"{name}.tar"
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=base.parent) as scratch:
        root = pathlib.Path(scratch) / "root"
        # Links suffice, in the same file system: nothing of the base is written to.
        subprocess.run(["cp", "-al", base / "root", root], check=True)
        before = set(_files(root))
        _assemble(name, "code", root)
        _assemble("compile", root)
        own = _tar(root, sorted(set(_files(root)) - before))
    layers = [(base / "debian.tar").read_bytes(), (base / "python.tar").read_bytes(), own]
    archives.write(archive, REFERENCES[name], layers, _config(name), gzipped=False)
    return archive


def _config(name: str) -> dict[str, object]:
    environment = ["PATH=/usr/local/bin:/usr/sbin:/usr/bin", "PYTHONUNBUFFERED=1"]
    if name == "programmer":
        environment.append("EBBGATE_BPF_OBJECT=/usr/lib/ebbgate/ebbgate.bpf.o")
    labels = {
        "org.opencontainers.image.title": REFERENCES[name].partition(":")[0].rpartition("/")[2],
        "org.opencontainers.image.description": DESCRIPTIONS[name],
        "org.opencontainers.image.version": VERSION,
        "org.opencontainers.image.licenses": LICENCES[name],
    }
    return {"User": USERS[name], "Env": environment, "Labels": labels}


def _base(name: str) -> pathlib.Path:
    """A folder with Debian's and Python's part: as a file system in `root`, and as two layers."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    ours = pathlib.Path(os.environ.get("EBBGATE_CACHE") or cache / "ebbgate") / "images"
    sources = (RECIPES / f"{name}.packages", RECIPES / f"{name}.lock", RECIPES / "assemble")
    content = FORM + b"".join(path.read_bytes() for path in sources)
    base = ours / f"{name}-{hashlib.sha256(content).hexdigest()[:16]}"
    if not base.exists():
        ours.mkdir(parents=True, exist_ok=True)
        # Made beside its place and moved into it: what was interrupted isn't taken for whole.
        unfinished = pathlib.Path(tempfile.mkdtemp(prefix=f".{name}-", dir=ours))
        try:
            _make_base(name, unfinished)
            unfinished.rename(base)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return base


def _make_base(name: str, folder: pathlib.Path) -> None:
    root = folder / "root"
    print(f"images: {name}: the packages of Debian and Python (once)", file=sys.stderr)
    _unpack((RECIPES / f"{name}.packages").read_text().split(), root, folder / "packages")
    shutil.rmtree(folder / "packages")
    debian = set(_files(root))
    _assemble(name, "dependencies", root)
    _assemble("compile", root)
    compiled = {path for path in _files(root) if "__pycache__" in path.parts and "local" not in path.parts}
    (folder / "debian.tar").write_bytes(_tar(root, sorted(debian | compiled)))
    (folder / "python.tar").write_bytes(_tar(root, sorted(set(_files(root)) - debian - compiled)))


def _unpack(packages: list[str], root: pathlib.Path, folder: pathlib.Path) -> None:
    """`packages` and all they depend on, as if nothing were installed, and what their scripts would do."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for archive in sorted(_downloaded(packages, folder)):
        unpacked = subprocess.run(["dpkg-deb", "--fsys-tarfile", archive], check=True, capture_output=True)
        command = ["tar", "-x", "--keep-directory-symlink", "-C", str(root)]
        subprocess.run(command, input=unpacked.stdout, check=True)
    for name in UNNEEDED:
        shutil.rmtree(root / "usr/share" / name, ignore_errors=True)
    certificates = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    bundle = "".join(path.read_text() for path in certificates)
    (root / "etc/ssl/certs/ca-certificates.crt").write_text(bundle)
    for name, content in ETC.items():
        (root / "etc" / name).write_text(content)
    for program in ("iptables", "ip6tables", "iptables-save", "ip6tables-save"):
        nft = root / "usr/sbin" / program.replace("tables", "tables-nft")
        if nft.is_symlink() and not (root / "usr/sbin" / program).exists():
            (root / "usr/sbin" / program).symlink_to(nft.name)


def _downloaded(packages: list[str], folder: pathlib.Path) -> list[pathlib.Path]:
    (folder / "partial").mkdir(parents=True)
    (folder / "status").touch()
    places = {"Dir::State::status": folder / "status", "Dir::Cache::archives": folder}
    options = [*(f"{name}={place}" for name, place in places.items()), "APT::Sandbox::User=root"]
    command = ["apt-get", "-qq", *(word for option in options for word in ("-o", option))]
    command += ["install", "-y", "--no-install-recommends", "--download-only", *packages]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        # The lists of what there is are missing or old.
        subprocess.run(["apt-get", "-qq", "update"], check=True)
        subprocess.run(command, check=True)
    return list(folder.glob("*.deb"))


def _assemble(*arguments: str | pathlib.Path) -> None:
    root = pathlib.Path(arguments[-1])
    found = next(re.fullmatch(r"python(3\.\d+)", path.name) for path in (root / "usr/lib").glob("python3.*"))
    assert found
    pip = f"{sys.executable} -m pip"
    subprocess.run(
        [RECIPES / "assemble", *arguments], check=True, env={**os.environ, "PIP": pip, "PYTHON": found[1]}
    )


def _files(root: pathlib.Path) -> Iterator[pathlib.Path]:
    """Everything below, folders too, by its path in the image."""
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            yield (pathlib.Path(folder) / name).relative_to(root)


def _tar(root: pathlib.Path, paths: list[pathlib.Path]) -> bytes:
    text = io.BytesIO()
    with tarfile.open(fileobj=text, mode="w") as tar:
        for path in paths:
            tar.add(root / path, arcname=str(path), recursive=False, filter=owned_by_root)
    return text.getvalue()


def owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


if __name__ == "__main__":
    main()
