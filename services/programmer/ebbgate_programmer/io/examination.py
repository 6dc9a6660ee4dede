"""The node as `doctor` looks at it: everything read once, nothing changed. Puts the readers together.

What can't be read is written down and left out: a node in trouble is the one that is asked.
"""

import gzip
import pathlib
import platform
import subprocess
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from ebbgate_bus.contracts import facts
from ebbgate_bus.runtime import access
from ebbgate_programmer.core import lowering, places, ruleset, symptoms
from ebbgate_programmer.core.kernelstate import KernelState, Rule
from ebbgate_programmer.io import (
    capabilities,
    counts,
    firewalls,
    interfaces,
    kernel,
    netlink,
    network,
    nft,
    objects,
    plan,
    probes,
    surroundings,
    sysctls,
)

T = TypeVar("T")
_LINKINFO, _VXLAN_PORT = 18, 15
"""IFLA_LINKINFO, IFLA_VXLAN_PORT."""
_NONE: tuple[ruleset.Chain, ...] = ()
_CONNTRACK = "net/netfilter/nf_conntrack_"
_UNREADABLE = (
    OSError, nft.Refused, network.Refused, objects.Unloadable, objects.Foreign, KeyError, ValueError,
    subprocess.SubprocessError, msgspec.DecodeError,
)  # fmt: skip


class Examination:
    """One look at a node. `node`: its name, or empty. `reach`: None if the bus isn't to be asked."""

    def __init__(
        self, made: kernel.Kernel, *, node: str, port: int, reach: access.Access | None = None
    ) -> None:
        self._kernel, self._node, self._port = made, node, port
        self._reach = reach
        self._unread: list[str] = []

    def read(self) -> symptoms.Facts:
        held = self._try("what is Ebbgate's", self._kernel.read, None)
        bus = plan.ask(self._reach, self._node) if self._reach else None
        known = self._try("interfaces", interfaces.read, tuple[facts.Interface, ...]())
        return symptoms.Facts(
            release=platform.release(),
            version=capabilities.version(),
            lacks=tuple(capabilities.missing(self._kernel.pins.root, self._kernel.source)),
            options=self._try("the kernel's build options", _options, {}),
            port=self._port,
            conntrack=self._try("conntrack", _conntrack, None),
            settings={path: sysctls.read(path) for path in _settings(each.name for each in known)},
            links=self._try("links", _links, ()),
            interfaces=known,
            environment=self._try("addresses and routes", self._environment, None),
            held=held,
            rules=self._try("routing rules", _rules, ()),
            chains=(*self._try("nftables", _chains, _NONE), *self._try("iptables", _saved, _NONE)),
            answers=self._try("other nodes", lambda: self._ask(held, bus), {}),
            bus=bus,
            unread=tuple(self._unread),
        )

    def _try(self, what: str, reader: Callable[[], T], default: T) -> T:
        try:
            return reader()
        except _UNREADABLE as error:
            self._unread.append(f"{what} ({error or type(error).__name__})")
            return default

    def _environment(self) -> lowering.Environment:
        known = self._try("the BPF object", lambda: objects.object_hash(self._kernel.source), "")
        return surroundings.read(node=self._node, port=self._port, object_hash=known)

    def _ask(self, held: KernelState | None, bus: symptoms.Bus | None) -> dict[str, symptoms.Answer]:
        """Gateways of this node's pods first, then every peer; not the node itself."""
        own = {cidr.split("/")[0] for _, cidr in interfaces.addresses()}
        gateways = {path.gateway for path in held.paths.values()} if held else set()
        peers = (held.peers if held else frozenset()) | (bus.peers if bus else frozenset())
        return probes.ask([*sorted(gateways - own), *sorted(peers - gateways - own)], self._port)


def _options() -> dict[str, str]:
    """Build options that are set, without CONFIG_; none if the kernel tells them nowhere."""
    packed, beside = pathlib.Path("/proc/config.gz"), pathlib.Path(f"/boot/config-{platform.release()}")
    if packed.exists():
        lines = gzip.decompress(packed.read_bytes()).decode().splitlines()
    else:
        lines = beside.read_text().splitlines() if beside.exists() else []
    pairs = (line.removeprefix("CONFIG_").split("=", 1) for line in lines if line.startswith("CONFIG_"))
    return {name: value for name, value in pairs}


def _conntrack() -> symptoms.Conntrack | None:
    count, limit = (sysctls.read(f"{_CONNTRACK}{name}") for name in ("count", "max"))
    if not count or not limit:
        return None
    columns = counts.conntrack()
    return symptoms.Conntrack(int(count), int(limit), columns.get("insert_failed", 0), columns.get("drop", 0))


def _settings(names: Iterable[str]) -> list[str]:
    """Those that any check may ask for."""
    devices = ("all", places.DEVICE, *names)
    return [
        *sysctls.FORWARDING.values(),
        "net/bridge/bridge-nf-call-iptables",
        *map(places.rp_filter, devices),
        *(f"net/ipv4/conf/{name}/forwarding" for name in devices),
    ]


def _links() -> tuple[symptoms.Link, ...]:
    return tuple(symptoms.Link(link.name, link.mtu, _vxlan_port(link)) for link in interfaces.links())


def _vxlan_port(link: interfaces.Link) -> int:
    about = dict(netlink.attributes(link.parts.get(_LINKINFO, b"")))
    if netlink.text(about.get(1)) != "vxlan":
        return 0
    data = dict(netlink.attributes(about.get(2, b"")))
    return int.from_bytes(data.get(_VXLAN_PORT, b""), "big")


def _rules() -> tuple[Rule, ...]:
    return tuple(
        network.rule(family, payload)
        for family, number in interfaces.FAMILIES.items()
        for payload in interfaces.rules(number)
    )


def _chains() -> tuple[ruleset.Chain, ...]:
    return tuple(ruleset.parse_nft(firewalls.ruleset()))


def _saved() -> tuple[ruleset.Chain, ...]:
    return tuple(chain for tool, text in firewalls.saved() for chain in ruleset.parse_saved(text, tool))
