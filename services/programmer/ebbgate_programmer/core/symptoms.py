"""What `doctor` reads of a node, and what it finds: the types of diagnosis."""

import enum
from collections.abc import Mapping

import msgspec

from ebbgate_bus.contracts import facts
from ebbgate_programmer.core import places, ruleset
from ebbgate_programmer.core.kernelstate import KernelState, Rule
from ebbgate_programmer.core.lowering import Environment


class Severity(enum.StrEnum):
    """`WARNING`: works, or may work, but somebody should know. `PROBLEM`: traffic is lost, or will be."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """`check`: a word for what was looked at. `advice`: what to do; empty if nothing is to be done."""

    check: str
    severity: Severity
    seen: str
    advice: str = ""


class Answer(enum.StrEnum):
    """To a datagram to the tunnel's port. SILENT: as an open port is, and a firewall that drops."""

    SILENT = "silent"
    CLOSED = "closed"
    UNREACHABLE = "unreachable"


class Conntrack(msgspec.Struct, frozen=True):
    """`refused`: insertions that failed; `dropped`: packets for want of room. Both since the node started."""

    count: int
    limit: int
    refused: int = 0
    dropped: int = 0


class Bus(msgspec.Struct, frozen=True):
    """`peers`: the nodes' tunnel addresses, of the plan."""

    url: str
    is_there: bool = False
    has_plan: bool = False
    peers: frozenset[str] = frozenset()


class Link(msgspec.Struct, frozen=True):
    """`vxlan_port`: 0 if it isn't a VXLAN device."""

    name: str
    mtu: int
    vxlan_port: int = 0


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """`lacks`: as `check` says it. `unread`: what couldn't be read, and why. `options`: the kernel's build
    options, empty if it doesn't tell. `settings`: path under /proc/sys → value, empty if there is none.
    `rules`: all routing rules, others' too. `held` None: it couldn't be read. `bus`
    None: nobody said where it is.
    """

    release: str = ""
    version: tuple[int, ...] = ()
    lacks: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    options: Mapping[str, str] = {}
    port: int = places.PORT
    conntrack: Conntrack | None = None
    settings: Mapping[str, str] = {}
    links: tuple[Link, ...] = ()
    interfaces: tuple[facts.Interface, ...] = ()
    environment: Environment | None = None
    held: KernelState | None = None
    rules: tuple[Rule, ...] = ()
    chains: tuple[ruleset.Chain, ...] = ()
    answers: Mapping[str, Answer] = {}
    bus: Bus | None = None

    @property
    def egress_interfaces(self) -> tuple[str, ...]:
        """Those that hold an egress IP of this node."""
        egress_ips = set(self.held.egress.values()) if self.held else set()
        return tuple(
            each.name
            for each in self.interfaces
            if not egress_ips.isdisjoint(address.split("/")[0] for address in each.addresses)
        )

    @property
    def uplinks(self) -> tuple[str, ...]:
        """By which traffic leaves: those of default routes, and those with egress IPs."""
        known = self.environment.ethernet if self.environment else {}
        default = (name for name, uplink in known.items() if uplink.is_default)
        return tuple(sorted({*default, *self.egress_interfaces}))

    @property
    def families(self) -> frozenset[str]:
        """Of which something here is to be forwarded."""
        if self.held is None:
            return frozenset()
        addresses = (*self.held.covered, *self.held.egress.values())
        return frozenset("ipv6" if ":" in each else "ipv4" for each in addresses)
