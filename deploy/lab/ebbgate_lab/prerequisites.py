"""What the lab needs of the machine, looked at before anything is touched, and told in one message."""

import os
import pathlib
import shutil
from collections.abc import Iterator

from ebbgate_lab import lab

TOOLS = {
    "ip": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
    "sysctl": "procps",
    "bpftool": "bpftool",
    "nginx": "nginx",
    "curl": "curl",
}
"""Program → Debian package."""


def missing() -> list[str]:
    """What isn't there, a line each; empty if the lab can run."""
    return [*_privilege(), *_programs(), *_kernel()]


def _privilege() -> Iterator[str]:
    if os.geteuid() != 0:
        yield "root: namespaces, nftables and BPF need it (run with sudo)"


def _programs() -> Iterator[str]:
    for tool, package in TOOLS.items():
        if not shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
            yield f"{tool}: install the package {package}"
    if not lab.BPF_OBJECT.exists():
        yield f"{lab.BPF_OBJECT.name}: built by `make setup`"


def _kernel() -> Iterator[str]:
    if not pathlib.Path("/sys/kernel/btf/vmlinux").exists():
        yield "a kernel with BTF (CONFIG_DEBUG_INFO_BTF)"
    major, minor = (int(part) for part in os.uname().release.split(".")[:2])
    if (major, minor) < (5, 10):
        yield f"Linux 5.10 or newer (this is {os.uname().release})"
