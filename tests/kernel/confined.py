"""Runs a command as a container runtime would: under a seccomp profile, with everything but /proc, bpffs and
/dev read-only, without capabilities other than the named ones.

    python confined.py PROFILE.json cap,cap COMMAND...

It starts as root: mounts first, then setpriv takes the capabilities, then this again sets the filter.
"""

import ctypes
import json
import os
import pathlib
import sys
from typing import Any

KEPT = ("/proc", "/dev", "/sys/fs/bpf")
_ACTIONS = {"SCMP_ACT_ALLOW": 0x7FFF0000, "SCMP_ACT_ERRNO": 0x00050000}
_COMPARE = {"SCMP_CMP_EQ": 4, "SCMP_CMP_MASKED_EQ": 7}
_CLONE_NEWNS, _MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20000, 1, 32, 4096, 16384, 1 << 18


class _Compare(ctypes.Structure):
    _fields_ = [
        ("argument", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("one", ctypes.c_uint64),
        ("other", ctypes.c_uint64),
    ]


def main(profile: str, capabilities: str, *command: str) -> None:
    if capabilities:
        _read_only()
        only = ",".join(("-all", *(f"+{name}" for name in capabilities.split(","))))
        privileges = ("setpriv", "--no-new-privs", f"--inh-caps={only}", f"--bounding-set={only}")
        command = (*privileges, sys.executable, __file__, profile, "", *command)
    else:
        _filter(json.loads(pathlib.Path(profile).read_text()))
    os.execvp(command[0], command)


def _read_only() -> None:
    """In a mount namespace of its own, every mount but those in KEPT."""
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(_CLONE_NEWNS))
    _check(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
    points = [line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in points:
        if not any(point == kept or point.startswith(f"{kept}/") for kept in KEPT):
            flags = _MS_BIND | _MS_REMOUNT | _MS_RDONLY
            _check(libc.mount(None, os.fsencode(point), None, flags, None))


def _filter(profile: dict[str, Any]) -> None:
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    made = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_action(profile, "defaultErrnoRet"))))
    for rule in profile["syscalls"]:
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            # Negative: not on this architecture, as a runtime has it.
            if number >= 0:
                compared = [
                    _Compare(each["index"], _COMPARE[each["op"]], each["value"], each.get("valueTwo", 0))
                    for each in rule.get("args", ())
                ]
                action = ctypes.c_uint32(_action(rule, "errnoRet"))
                array = (_Compare * max(len(compared), 1))(*compared)
                _check(library.seccomp_rule_add_array(made, action, number, len(compared), array))
    _check(library.seccomp_load(made))


def _action(rule: dict[str, Any], code: str) -> int:
    return _ACTIONS[rule.get("action") or rule["defaultAction"]] | int(rule.get(code, 0))


def _check(code: int) -> None:
    if code < 0:
        raise OSError(ctypes.get_errno() or -code, os.strerror(ctypes.get_errno() or -code))


if __name__ == "__main__":
    main(*sys.argv[1:])
