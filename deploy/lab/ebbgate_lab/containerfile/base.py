"""Debian's slim base image, as near as Debian's packages get to the one of the registry.

Its packages are Debian's minimal ones, without what slim images leave out. It isn't the same image: packages
are today's and not those of the point release that the tag names, and the official one is tidied up further.
"""

import pathlib
import re
import subprocess
from typing import IO

from ebbgate_lab import archives

CODENAMES = {"12": "bookworm"}
UNNEEDED = ("man", "info", "locale", "groff", "lintian", "linda", "doc")
"""Folders of /usr/share that slim images leave out; of doc they keep the licences."""
CONFIG = {
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    "Cmd": ["bash"],
}
APT = ('Dir::Cache::pkgcache ""', 'Dir::Cache::srcpkgcache ""', 'Acquire::Languages "none"')
"""As in the official image: what apt reckons doesn't stay in a layer."""
HOOKS = (
    # As there, too. Only now: making the root takes each package twice.
    """echo 'APT::Keep-Downloaded-Packages "false";' > "$1/etc/apt/apt.conf.d/clean" """,
    # These are this machine's.
    'rm -f "$1/etc/resolv.conf" "$1/etc/hostname"',
)
"""What is done in the root, $1, at the end."""


def tag(recipe: pathlib.Path) -> str:
    """The base image that a Containerfile names, NAME:TAG."""
    text = recipe.read_text()
    release = re.search(r"^ARG DEBIAN=(\S+)$", text, re.MULTILINE)
    name = re.search(r"^FROM (\S+):\$\{DEBIAN\} ", text, re.MULTILINE)
    assert release, recipe
    assert name, recipe
    return f"{name[1]}:{release[1]}"


def make(reference: str, archive: pathlib.Path, log: IO[str]) -> None:
    """The release that `reference` names, from Debian's mirrors."""
    codename = CODENAMES[reference.rpartition(":")[2].partition(".")[0]]
    root = archive.with_suffix(".root.tar")
    options = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNNEEDED]
    options += ["--dpkgopt=path-include=/usr/share/doc/*/copyright", *(f"--aptopt={line}" for line in APT)]
    options += [f"--customize-hook={line}" for line in HOOKS]
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", *options, codename, str(root)]
    subprocess.run(command, check=True, stdout=log, stderr=log)
    archives.write(archive, reference, [root.read_bytes()], CONFIG)
