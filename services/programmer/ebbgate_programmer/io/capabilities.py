"""What this machine lacks to be a node of Ebbgate, in words. Looks only; changes nothing."""

import ctypes
import os
import pathlib
import platform
import shutil

from ebbgate_programmer.io import bpf

KERNEL = (6, 6)
"""tcx links."""
_NEEDED = {12: "CAP_NET_ADMIN", 39: "CAP_BPF"}


def missing(pin_path: pathlib.Path, source: pathlib.Path) -> list[str]:
    """One phrase per thing that is missing, with what to do about it; empty if nothing is."""
    lacks = [f"capability {name}" for name in _missing_capabilities()]
    if version() < KERNEL:
        lacks.append(f"kernel {'.'.join(map(str, KERNEL))} or newer (this is {platform.release()})")
    if not bpf.is_mounted(pin_path):
        lacks.append(f"a bpf filesystem under {pin_path} (mount -t bpf bpf /sys/fs/bpf)")
    if not shutil.which("nft"):
        lacks.append("the nft program (Debian: nftables)")
    try:
        ctypes.CDLL("libbpf.so.1")
    except OSError:
        lacks.append("libbpf 1 (Debian: libbpf1)")
    if not source.exists():
        lacks.append(f"the BPF object {source} (make bpf)")
    return lacks


def _missing_capabilities() -> list[str]:
    status = pathlib.Path("/proc/self/status").read_text()
    held = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff"))
    return [name for bit, name in _NEEDED.items() if not held >> bit & 1]


def version() -> tuple[int, ...]:
    """The kernel's, major and minor."""
    return tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
