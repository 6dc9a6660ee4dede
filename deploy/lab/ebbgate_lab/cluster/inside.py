"""PID 1 of a node: makes a machine out of namespaces, then keeps the node's programs running, until it is
killed.

Started in network, mount, UTS, IPC and PID namespaces of its own (`node.py`). Everything below a node's /etc,
/opt, /var/lib, /var/log and /run is its own; the rest of the file system is the machine's, and not to be
written to. With PID 1 all of the node ends, and with its mount namespace all mounts do.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from ebbgate_lab.cluster import cgroups

OVERLAID = ("/etc", "/opt", "/var/lib", "/var/log")
IMAGES = "/var/lib/containerd"
OWN = ("/var/lib/kubelet", IMAGES)
"""What can't be on an overlay: containerd puts overlays there itself, kubelet wants to know the disk."""
SYSCTLS = {"vm/overcommit_memory": 1, "vm/panic_on_oom": 0, "kernel/panic": 10, "kernel/panic_on_oops": 1}
"""What kubelet wants of the machine: it reads this, and writes nothing."""
PLUGINS = pathlib.Path("/usr/lib/cni")
RESTART_S = 0.3
SOCKET_WITHIN_S = 30.0


def main() -> None:
    """`node.json` in the folder that is the only argument says the rest: name, cgroup, images, programs."""
    folder = pathlib.Path(sys.argv[1])
    told = json.loads((folder / "node.json").read_text())
    cgroups.join(told["cgroup"])
    socket.sethostname(told["name"])
    for command in _mounts(folder, volatile=told["volatile"]):
        subprocess.run(command, check=True)
    _install_cni(folder)
    daemons = Daemons(folder, told["programs"])
    daemons.start("containerd")
    _until_exists(pathlib.Path(told["socket"]))
    for archive in told["images"]:
        subprocess.run(["ctr", "-n", "k8s.io", "images", "import", archive], check=True)
    for name in told["programs"]:
        if name != "containerd":
            daemons.start(name)
    daemons.keep()


class Daemons:
    """The node's programs, by name. Who ends is started again, as an init system would."""

    def __init__(self, folder: pathlib.Path, commands: dict[str, list[str]]) -> None:
        self._folder = folder
        self._commands = commands
        self._running: dict[int, str] = {}

    def start(self, name: str) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                self._commands[name], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        child.returncode = 0  # we wait for all children ourselves
        self._running[child.pid] = name

    def keep(self) -> None:
        """Never returns. Orphans of the node are waited for here, too: they are PID 1's."""
        while True:
            pid, _ = os.wait()
            if name := self._running.pop(pid, ""):
                time.sleep(RESTART_S)
                self.start(name)


def _mounts(folder: pathlib.Path, *, volatile: bool) -> Iterator[list[str]]:
    """Commands, in order. A fresh sysfs shows the node's own devices; cgroups are carried over to it."""
    yield ["mount", "-t", "proc", "proc", "/proc"]
    kept = _made(folder / "cgroup")
    yield ["mount", "--rbind", "/sys/fs/cgroup", kept]
    yield ["mount", "-t", "sysfs", "sysfs", "/sys"]
    yield ["mount", "--move", kept, "/sys/fs/cgroup"]
    yield ["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"]
    yield ["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"]
    for name, value in SYSCTLS.items():
        file = folder / name.replace("/", ".")
        file.write_text(f"{value}\n")
        yield ["mount", "--bind", str(file), f"/proc/sys/{name}"]
    for place in OVERLAID:
        layers = folder / "layers" / place.strip("/").replace("/", "-")
        upper, work = _made(layers / "upper"), _made(layers / "work")
        options = f"lowerdir={place},upperdir={upper},workdir={work}"
        yield ["mount", "-t", "overlay", "-o", options, "overlay", place]
    for place in OWN:
        yield ["mount", "--bind", _made(folder / pathlib.Path(place).name), _made(pathlib.Path(place))]
    if volatile:
        yield ["mount", "-t", "tmpfs", "-o", "mode=711", "tmpfs", IMAGES]
    yield ["mount", "--make-rshared", "/"]


def _made(folder: pathlib.Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def _install_cni(folder: pathlib.Path) -> None:
    plugins = pathlib.Path(_made(pathlib.Path("/opt/cni/bin")))
    for plugin in PLUGINS.iterdir():
        if not (plugins / plugin.name).is_symlink():
            (plugins / plugin.name).symlink_to(plugin)
    configured = pathlib.Path(_made(pathlib.Path("/etc/cni/net.d"))) / "10-lab.conflist"
    configured.write_text((folder / "cni.json").read_text())


def _until_exists(path: pathlib.Path) -> None:
    deadline = time.monotonic() + SOCKET_WITHIN_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} isn't there after {SOCKET_WITHIN_S:.0f} s")
        time.sleep(0.02)


if __name__ == "__main__":
    main()
