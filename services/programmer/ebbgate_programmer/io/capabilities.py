"""What this machine lacks to be a node of Ebbgate, in words. Looks only; changes nothing."""

import ctypes
import os
import pathlib
import platform
import resource
import shutil

from ebbgate_programmer.io import bpf

KERNEL = (5, 10)
"""CAP_BPF and ring buffers (5.8), and the oldest that is still maintained."""
_CHARGED_TO_CGROUPS = (5, 11)
"""Before, maps counted as locked memory, of which a container has 64 KB or what its runtime says."""
_RESOURCE = 24
_NEEDED = {12: "CAP_NET_ADMIN", 39: "CAP_BPF"}


def missing(pin_path: pathlib.Path, source: pathlib.Path) -> list[str]:
    """One phrase per thing that is missing, with what to do about it; empty if nothing is."""
    lacks = [f"capability {name}" for name in _missing_capabilities()]
    if version() < KERNEL:
        lacks.append(f"kernel {'.'.join(map(str, KERNEL))} or newer (this is {platform.release()})")
    if version() < _CHARGED_TO_CGROUPS and not _may_lock_memory():
        lacks.append(
            "CAP_SYS_RESOURCE, or no limit for locked memory (a kernel before 5.11 counts maps there)"
        )
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
    return [name for bit, name in _NEEDED.items() if not _held() >> bit & 1]


def _may_lock_memory() -> bool:
    _, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return most == resource.RLIM_INFINITY or bool(_held() >> _RESOURCE & 1)


def _held() -> int:
    """Effective capabilities, a bit each."""
    status = pathlib.Path("/proc/self/status").read_text()
    return next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff"))


def version() -> tuple[int, ...]:
    """The kernel's, major and minor."""
    return tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
