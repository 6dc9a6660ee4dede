"""rtnetlink: the device, rules and routes of ours, and what the node's interfaces are.

By pyroute2's IPRoute, which may not be used inside a running event loop: everything here runs in the kernel's
worker thread. Reads give plain values of `kernelstate` and `facts`; writes make or remove one thing each.
"""

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyroute2
from pyroute2.netlink.exceptions import NetlinkError

from ebbgate_bus.contracts import facts
from ebbgate_programmer.core import lowering, places
from ebbgate_programmer.core.kernelstate import Device, Rule, Way

_NOARP, _UP = 0x80, 0x1
_BLACKHOLE = 6
_MAIN = 254
_UNUSABLE = 0x20 | 0x08 | 0x40  # deprecated, dadfailed, tentative
_FAMILIES = ((socket.AF_INET, "ipv4"), (socket.AF_INET6, "ipv6"))


class Refused(Exception):
    """The kernel's no to a request; the text says which."""


@contextlib.contextmanager
def _asking(verb: str, *harmless: int) -> Iterator[None]:
    """Wraps pyroute2's error; codes in `harmless` mean that it is as wanted already."""
    try:
        yield
    except NetlinkError as error:
        if error.code not in harmless:
            raise Refused(f"{verb}: {error}") from error


class Network:
    """One rtnetlink socket, in the network namespace of the thread that made it."""

    def __init__(self) -> None:
        self.route = pyroute2.IPRoute()

    def close(self) -> None:
        self.route.close()

    def index(self, name: str = places.DEVICE) -> int:
        """0 if there is no such device."""
        found = self.route.link_lookup(ifname=name)
        return int(found[0]) if found else 0

    def read_device(self) -> Device | None:
        index = self.index()
        if not index:
            return None
        link = next(iter(self.route.get_links(index)))
        addresses = [
            f"{address.get_attr('IFA_LOCAL')}/{address['prefixlen']}"
            for address in self.route.get_addr(index=index, family=socket.AF_INET)
        ]
        return Device(
            mac=link.get_attr("IFLA_ADDRESS"),
            mtu=link.get_attr("IFLA_MTU"),
            address=" ".join(addresses),
            form=_form(link),
            up=bool(link["flags"] & _UP),
        )

    def read_rules(self) -> frozenset[Rule]:
        """Those with our priorities, whatever else they say: a rule in our place is ours to put right."""
        found = self.route.get_rules(family=socket.AF_INET)
        return frozenset(_rule(rule) for rule in found if rule.get_attr("FRA_PRIORITY") in places.PRIORITIES)

    def read_ways(self) -> frozenset[Way]:
        ways = [
            _way(route, self._name(route.get_attr("RTA_OIF")))
            for table in places.TABLES
            for route in self.route.get_routes(family=socket.AF_INET, table=table)
        ]
        return frozenset(ways)

    def _name(self, index: int | None) -> str:
        if not index:
            return ""
        try:
            return str(next(iter(self.route.get_links(index))).get_attr("IFLA_IFNAME"))
        except NetlinkError:  # went between two questions
            return f"interface {index}"

    def set_device(self, device: Device, *, replace: bool) -> None:
        """The device as it must be: made if absent, made anew if `replace`, else put right in place."""
        if replace:
            self.remove_device()
        if not self.index():
            self._add_device(device)
        index = self.index()
        with _asking(f"set up {places.DEVICE}"):
            self.route.link("set", index=index, mtu=device.mtu, flags=_NOARP, change=_NOARP)
            self._set_address(index, device.address)
            self.route.link("set", index=index, state="up")

    def _add_device(self, device: Device) -> None:
        port = int(device.form.rsplit(" ", 1)[1])
        with _asking(f"make {places.DEVICE}", errno.EEXIST):
            self.route.link(
                "add",
                ifname=places.DEVICE,
                kind="vxlan",
                vxlan_collect_metadata=1,
                vxlan_port=port,
                vxlan_learning=0,
                address=device.mac,
            )

    def _set_address(self, index: int, wanted: str) -> None:
        for address in self.route.get_addr(index=index, family=socket.AF_INET):
            found = f"{address.get_attr('IFA_LOCAL')}/{address['prefixlen']}"
            if found != wanted:
                self.route.addr(
                    "del", index=index, address=found.split("/")[0], prefixlen=address["prefixlen"]
                )
        ip, length = wanted.split("/")
        with _asking(f"address {places.DEVICE}", errno.EEXIST):
            self.route.addr("add", index=index, address=ip, prefixlen=int(length), scope=253)

    def remove_device(self) -> None:
        index = self.index()
        if index:
            with _asking(f"remove {places.DEVICE}", errno.ENODEV):
                self.route.link("del", index=index)

    def add_way(self, way: Way, program: int = 0) -> None:
        """`program`: descriptor of the LWT program, if the way has one. Replaces what has its metric."""
        wanted: dict[str, Any] = {"dst": "0.0.0.0/0", "table": way.table, "priority": way.metric}
        wanted["proto"] = places.ROUTE_PROTOCOL
        if not way.device:
            wanted["type"] = "blackhole"
        else:
            wanted |= {"oif": self.index(way.device), "scope": 253}
        if way.program:
            wanted["encap"] = {"type": "bpf", "in": {"fd": program, "name": way.program}}
        with _asking(f"route in table {way.table}"):
            self.route.route("replace", **wanted)

    def remove_way(self, way: Way) -> None:
        found = {"dst": "0.0.0.0/0", "table": way.table, "priority": way.metric}
        with _asking(f"remove a route of table {way.table}", errno.ESRCH):
            self.route.route("del", **found, **({} if way.device else {"type": "blackhole"}))

    def remove_ways(self) -> None:
        for table in places.TABLES:
            with _asking(f"empty table {table}", errno.ESRCH, errno.ENOENT):
                self.route.flush_routes(table=table, family=socket.AF_INET)

    def add_rule(self, rule: Rule) -> None:
        with _asking(f"rule {rule.priority}", errno.EEXIST):
            self.route.rule("add", **_rule_request(rule))

    def remove_rule(self, rule: Rule) -> None:
        with _asking(f"remove rule {rule.priority}", errno.ENOENT):
            self.route.rule("del", **_rule_request(rule))

    def names(self) -> dict[str, str]:
        """Every interface by its name and its alternative names."""
        names: dict[str, str] = {}
        for link in self.route.get_links():
            name = link.get_attr("IFLA_IFNAME")
            names.update({alternative: name for alternative in (name, *_alternatives(link))})
        return names

    def read_interfaces(self) -> tuple[facts.Interface, ...]:
        """Those with a usable address, by index; lo and ebbgate0 are nobody's business."""
        addresses: dict[int, list[str]] = {}
        for family, _ in _FAMILIES:
            for address in self.route.get_addr(family=family):
                if _is_usable(address):
                    addresses.setdefault(address["index"], []).append(_cidr(address))
        defaults = self._default_routes()
        links = [link for link in self.route.get_links() if link["index"] in addresses]
        return tuple(
            facts.Interface(
                name=link.get_attr("IFLA_IFNAME"),
                index=link["index"],
                alt_names=tuple(sorted(_alternatives(link))),
                addresses=tuple(addresses[link["index"]]),
                default_route=tuple(name for _, name in _FAMILIES if link["index"] in defaults[name]),
            )
            for link in sorted(links, key=lambda link: int(link["index"]))
            if link.get_attr("IFLA_IFNAME") not in ("lo", places.DEVICE)
        )

    def _default_routes(self) -> Mapping[str, Iterable[int]]:
        """The interface of the best default route, per family: of several, the smallest metric."""
        found: dict[str, list[int]] = {}
        for family, name in _FAMILIES:
            routes = [route for route in self.route.get_default_routes(family=family, table=_MAIN)]
            routes = [route for route in routes if route.get_attr("RTA_OIF")]
            best = min(routes, key=lambda route: route.get_attr("RTA_PRIORITY") or 0, default=None)
            found[name] = [best.get_attr("RTA_OIF")] if best is not None else []
        return found

    def underlay_mtu(self) -> int:
        """Of the interface with the IPv4 default route; without one, the smallest of those with addresses."""
        interfaces = self.read_interfaces()
        chosen = [each for each in interfaces if "ipv4" in each.default_route] or list(interfaces)
        mtus = [self.mtu(each.index) for each in chosen]
        return min(mtus, default=places.DEFAULT_MTU)

    def mtu(self, index: int) -> int:
        return int(next(iter(self.route.get_links(index))).get_attr("IFLA_MTU"))


def _form(link: Any) -> str:
    """In the words of `lowering.device_form`, or in others if it is something else."""
    about = link.get_attr("IFLA_LINKINFO")
    kind = about.get_attr("IFLA_INFO_KIND") if about else "device"
    data = about.get_attr("IFLA_INFO_DATA") if about else None
    if kind != "vxlan" or data is None:
        return str(kind)
    words = [
        "external" if data.get_attr("IFLA_VXLAN_COLLECT_METADATA") else "fixed",
        "learning" if data.get_attr("IFLA_VXLAN_LEARNING") else "nolearning",
        "noarp" if link["flags"] & _NOARP else "arp",
    ]
    return f"vxlan {' '.join(words)} port {data.get_attr('IFLA_VXLAN_PORT')}"


def _rule(rule: Any) -> Rule:
    return Rule(
        priority=rule.get_attr("FRA_PRIORITY"),
        mark=rule.get_attr("FRA_FWMARK") or 0,
        mask=rule.get_attr("FRA_FWMASK") or 0,
        table=rule.get_attr("FRA_TABLE") or rule["table"],
    )


def _rule_request(rule: Rule) -> dict[str, Any]:
    return {
        "family": socket.AF_INET,
        "priority": rule.priority,
        "fwmark": rule.mark,
        "fwmask": rule.mask,
        "table": rule.table,
    }


def _way(route: Any, device: str) -> Way:
    encap = route.get_attr("RTA_ENCAP")
    program = ""
    if encap is not None and hasattr(encap, "get_attr") and encap.get_attr("LWT_BPF_IN"):
        program = encap.get_attr("LWT_BPF_IN").get_attr("LWT_BPF_PROG_NAME") or "unnamed"
    blackhole = route["type"] == _BLACKHOLE
    return Way(
        table=route.get_attr("RTA_TABLE"),
        metric=route.get_attr("RTA_PRIORITY") or 0,
        device="" if blackhole else device,
        program=program,
    )


def _alternatives(link: Any) -> list[str]:
    listed = link.get_attr("IFLA_PROP_LIST")
    return [value for key, value in listed["attrs"] if key == "IFLA_ALT_IFNAME"] if listed else []


def _is_usable(address: Any) -> bool:
    flags = address.get_attr("IFA_FLAGS") or address["flags"]
    ip = ipaddress.ip_address(_cidr(address).split("/")[0])
    return not (flags & _UNUSABLE or ip.is_link_local or ip.is_loopback)


def _cidr(address: Any) -> str:
    ip = address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS")
    return f"{ip}/{address['prefixlen']}"


def environment(network: Network, *, node: str, port: int, object_hash: str) -> lowering.Environment:
    """What lowering must know, as the kernel has it now."""
    return lowering.Environment(
        node=node,
        underlay_mtu=network.underlay_mtu(),
        port=port,
        object_hash=object_hash,
        interfaces=network.names(),
    )
