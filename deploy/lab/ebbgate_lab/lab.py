"""The whole of Ebbgate on one machine: namespaces, nginx, nats-server, watcher, resolver, a programmer per
node.

Every part is the real one and runs as its own process in its own namespace. `up` brings it up in order,
`down` takes everything away again, also what an earlier run left; nothing outside the lab's own names is
touched.
"""

import asyncio
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence

from ebbgate_bus.contracts.permissions import Principal, Role
from ebbgate_bus.runtime import connection
from ebbgate_lab import apiserver, credentials, observer, processes, sources, topology, webserver

CONTROL = "10.168.60.10"
NATS_PORT = 4222
HEALTH_PORTS = {"watcher": 9880, "resolver": 9881}
PROGRAMMER_HEALTH_PORT = 9882
NODES = ("node1", "node2")
BUS = "nats-server"
BPF_OBJECT = pathlib.Path(__file__).parents[3] / "build" / "bpf" / "ebbgate.bpf.o"
BPFFS = pathlib.Path("/sys/fs/bpf")


class Lab:
    """`prefix`: of all names, so that two labs can stand side by side. `folder`: logs, stores and manifests.

    `outlive`: its processes go on when the one that started them ends. `network`: another than the usual one,
    with a prefix of its own. `secured`: the bus has TLS, and everybody a key.
    """

    def __init__(
        self,
        *,
        prefix: str = "ebb-",
        folder: pathlib.Path | None = None,
        outlive: bool = False,
        network: topology.Topology | None = None,
        secured: bool = False,
    ) -> None:
        self.prefix = prefix
        self._outlive = outlive
        self.folder = folder or pathlib.Path(tempfile.mkdtemp(prefix=f"{prefix}lab-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.topology = network or topology.Topology(prefix)
        self.nodes = tuple(host.name for host in self.topology.hosts if host.pod_cidr)
        self.url = f"nats://{CONTROL}:{NATS_PORT}"
        self.credentials = credentials.Credentials(self.folder / "bus") if secured else None
        self.pin_root = BPFFS / f"{prefix}lab"
        self.source: sources.Source = sources.Directory(self.folder / "manifests")
        self.processes: dict[str, processes.Process] = {}
        self.environment: dict[str, str] = {}
        """Of our services, beside what they inherit; to be set before `install`."""
        self.web = webserver.Webserver(self.folder, self.netns("external"), outlive=outlive)

    @property
    def introduction(self) -> str:
        """What this is, in a line for people."""
        what = "Two nodes, two pods, and nginx outside[/]: six network namespaces on this machine"
        where = "\nObjects live in a [bold]real kube-apiserver[/] with etcd" if self.source.servers else ""
        return f"[bold]{what}{where}"

    def said_of_pods(self) -> list[str]:
        """What Kubernetes says of them, for people; nothing where there is none."""
        return []

    def to_try(self) -> list[str]:
        """Commands for a person who looks at a lab that was left running."""
        request = f"nsenter --net=/run/netns/{self.netns('mediabot')} curl http://{webserver.ADDRESS}/hello"
        return [request, f"edit the policy in {self.folder}/manifests, and look again"]

    def netns(self, name: str) -> str:
        return f"{self.prefix}{name}"

    def address(self, pod: str) -> str:
        return next(each.address for each in self.topology.pods if each.name == pod)

    def pin_path(self, node: str) -> pathlib.Path:
        return self.pin_root / node

    def build(self) -> None:
        """Namespaces, cables, nginx: the world before Ebbgate."""
        ensure_bpffs()
        self.remove()
        self.topology.make()
        self.web.start()

    def begin(self) -> None:
        """Kubernetes, or what stands for it."""
        for process in self.source.servers:
            process.outlive = self._outlive
        self.source.start()

    def install(self, objects: Sequence[sources.Manifest] | None = None) -> None:
        """Ebbgate itself: the source's objects (the usual nodes and pods), nats-server, the services."""
        self.begin()
        usual = (*sources.manifests("nodes.yaml"), *sources.manifests("pods.yaml"))
        for manifest in usual if objects is None else objects:
            self.source.apply(manifest)
        control = self.netns("control")
        security = ""
        if self.credentials:
            self.credentials.make(CONTROL, self.nodes)
            security = self.credentials.security
        nats = processes.nats_server(
            self.folder, host=CONTROL, port=NATS_PORT, netns=control, security=security
        )
        self._add(nats)
        self.start(BUS)
        self._add_service("watcher", "control", "ebbgate_watcher", *self.source.watcher_arguments())
        self._add_service("resolver", "control", "ebbgate_resolver")
        for node in self.nodes:
            self._add_programmer(node)
        for name in self.services():
            self.start(name)

    def start(self, name: str) -> None:
        self.processes[name].start()
        if name == BUS:
            processes.until_listening(CONTROL, NATS_PORT, netns=self.netns("control"))

    def lose_store(self) -> None:
        """All that the bus has stored, while it is down: as where it has no volume."""
        shutil.rmtree(self.folder / processes.STORE)

    def services(self) -> list[str]:
        """Names of our own processes, in the order of the walk."""
        return [name for name in self.processes if name != BUS]

    async def observe(self) -> tuple[connection.Bus, observer.Observer]:
        """A connection from inside the control namespace: the caller must have entered it."""
        reader = Principal(Role.READER)
        reach = self.credentials.access(self.url, reader) if self.credentials else self.url
        bus = await asyncio.wait_for(connection.connect(reach, name="lab", principal=reader), 10)
        watching = observer.Observer(bus)
        watching.start()
        return bus, watching

    def curl(self, pod: str, path: str, *, ipv6: bool = False) -> subprocess.CompletedProcess[str]:
        """One request from a pod to nginx, with the real curl."""
        host = f"[{topology.twin(webserver.ADDRESS)}]" if ipv6 else webserver.ADDRESS
        url = f"http://{host}{path}"
        return processes.run(self.netns(pod), "curl", "-sS", "--max-time", "2", url)

    def health(self, name: str, path: str) -> str:
        """What service `name` answers about itself, with the real curl; empty if nobody does."""
        port = HEALTH_PORTS.get(name, PROGRAMMER_HEALTH_PORT)
        place = "control" if name in HEALTH_PORTS else name.removeprefix("programmer-")
        return processes.run(
            self.netns(place), "curl", "-s", "--max-time", "5", f"http://127.0.0.1:{port}{path}"
        ).stdout

    def log_tail(self, lines: int = 8) -> str:
        """The end of each process's log, for an error message."""
        tails = []
        for name, process in self.processes.items():
            end = process.log.read_text().splitlines()[-lines:] if process.log.exists() else []
            tails.append("\n".join([f"--- {name}", *end]))
        return "\n".join(tails)

    def down(self) -> None:
        """Stop everything and leave nothing."""
        for process in reversed(self.processes.values()):
            process.stop()
        self.source.stop()
        self.web.process.stop()
        self.remove()
        shutil.rmtree(self.folder, ignore_errors=True)

    def pids(self) -> list[int]:
        """Of everything that runs, the last started first."""
        running = (*reversed(self.processes.values()), *self.source.servers, self.web.process)
        return [process.pid for process in running]

    def end(self, pids: list[int]) -> None:
        """Stop processes of an earlier run by pid, if they still are in one of our namespaces."""
        paths = [self.topology.path(name) for name in self.topology.names]
        ours = {path.stat().st_ino for path in paths if path.exists()}
        for pid in pids:
            processes.end_pid(pid, namespaces=ours)

    def remove(self) -> None:
        """Namespaces and pins, whoever made them. With its namespace goes all a programmer put into it."""
        self.topology.remove()
        remove_pins(self.pin_root)

    def _add(self, process: processes.Process) -> None:
        process.outlive = self._outlive
        self.processes[process.name] = process

    def _add_service(self, name: str, place: str, module: str, *arguments: str) -> None:
        health_port = str(HEALTH_PORTS.get(name, PROGRAMMER_HEALTH_PORT))
        command = processes.module(module, *arguments, "--nats", self.url, "--health-port", health_port)
        log = self.folder / f"{name}.log"
        env = self.environment | (self.credentials.environment(name) if self.credentials else {})
        self._add(processes.Process(name, command, log=log, netns=self.netns(place), env=env))

    def _add_programmer(self, node: str) -> None:
        pins, bpf_object = str(self.pin_path(node)), str(BPF_OBJECT)
        arguments = ["run", "--node", node, "--pin-path", pins, "--bpf-object", bpf_object]
        self._add_service(f"programmer-{node}", node, "ebbgate_programmer", *arguments)


def kubernetes(scene: Lab) -> sources.Source:
    """A source for `scene`: a real kube-apiserver with etcd, on the control host."""
    folder, ports = scene.folder / "kubernetes", (6443, 2379, 2380)
    return apiserver.ApiServer(folder, host=CONTROL, ports=ports, netns=scene.netns("control"))


def ensure_bpffs() -> None:
    """Mount bpffs where it belongs, unless it is there. It stays: other programs share it."""
    mounts = pathlib.Path("/proc/mounts").read_text().splitlines()
    if all(line.split()[1] != str(BPFFS) for line in mounts):
        subprocess.run(["mount", "-t", "bpf", "bpf", str(BPFFS)], check=True)


def remove_pins(folder: pathlib.Path) -> None:
    """Absent afterwards, with all that is in it."""
    if folder.is_dir():
        for entry in folder.iterdir():
            remove_pins(entry)
        folder.rmdir()
    elif folder.exists():
        folder.unlink()
