"""rtnetlink: the device, rules and routes of ours.

Reads by plain structs, as they are many; writes by pyroute2's IPRoute, as they are few. IPRoute may not be
used inside a running event loop: everything here runs in the kernel's worker thread. It is imported when
something has to be written: a programmer that finds all in place never needs its 11 MB. Reads give values
of `kernelstate`; writes make or remove one thing each.
"""

import contextlib
import errno
import functools
import socket
from collections.abc import Iterator
from typing import Any

from ebbgate_programmer.core import places
from ebbgate_programmer.core.kernelstate import Device, Rule, Way
from ebbgate_programmer.io import interfaces, netlink

_NOARP, _UP = 0x80, 0x1
_BLACKHOLE = 6
_GET_RULE = 34
_FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
_EVERYTHING = {"ipv4": "0.0.0.0/0", "ipv6": "::/0"}
_LINK, _UNIVERSE = 253, 0


class Refused(Exception):
    """The kernel's no to a request; the text says which."""


@contextlib.contextmanager
def _asking(verb: str, *harmless: int) -> Iterator[None]:
    """Wraps pyroute2's error; codes in `harmless` mean that it is as wanted already."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        yield
    except NetlinkError as error:
        if error.code not in harmless:
            raise Refused(f"{verb}: {error}") from error


class Network:
    """One rtnetlink socket, in the network namespace of the thread that first writes."""

    @functools.cached_property
    def route(self) -> Any:
        import pyroute2

        return pyroute2.IPRoute()

    def close(self) -> None:
        if "route" in vars(self):
            self.route.close()

    def index(self, name: str = places.DEVICE) -> int:
        """0 if there is no such device."""
        try:
            return socket.if_nametoindex(name)
        except OSError:
            return 0

    def read_device(self) -> Device | None:
        link = next((link for link in interfaces.links() if link.name == places.DEVICE), None)
        if link is None:
            return None
        held = [cidr for index, cidr in interfaces.addresses() if index == link.index and ":" not in cidr]
        return Device(
            mac=link.mac, mtu=link.mtu, address=" ".join(held), form=_form(link), up=bool(link.flags & _UP)
        )

    def name(self, index: int) -> str:
        """Empty if there is no such device."""
        try:
            return socket.if_indextoname(index)
        except OSError:
            return ""

    def read_rules(self) -> frozenset[Rule]:
        """Those with our priorities, whatever else they say: a rule in our place is ours to put right."""
        found = [
            rule(family, payload)
            for family, number in _FAMILIES.items()
            for payload in interfaces.rules(number)
        ]
        return frozenset(each for each in found if each.priority in places.PRIORITIES)

    def read_ways(self, program: int = 0) -> frozenset[Way]:
        """`program`: id of the one that ways should lead to. One that leads to another isn't named as wished:
        it would ask maps that aren't written to any more.
        """
        names = {link.index: link.name for link in interfaces.links()}
        return frozenset(
            _way((family, table), found, names, program)
            for family, number in _FAMILIES.items()
            for table in places.TABLES
            for found in interfaces.routes(number, table)
        )

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

    def add_way(self, way: Way, program: tuple[int, int] = (0, 0)) -> None:
        """`program`: descriptor and id of the LWT program, if the way has one. Replaces what is in its
        place.
        """
        wanted = _way_request(way) | {"proto": places.ROUTE_PROTOCOL}
        if way.device:
            wanted |= {"oif": self.index(way.device), "scope": _UNIVERSE if way.gateway else _LINK}
        if way.gateway:
            wanted["gateway"] = way.gateway
        if way.program:
            descriptor, number = program
            wanted["encap"] = {"type": "bpf", "in": {"fd": descriptor, "name": _named(way.program, number)}}
        with _asking(f"route in table {way.table}"):
            self.route.route("replace", **wanted)

    def remove_way(self, way: Way) -> None:
        with _asking(f"remove a route of table {way.table}", errno.ESRCH):
            self.route.route("del", **_way_request(way))

    def remove_ways(self) -> None:
        for way in self.read_ways():
            self.remove_way(way)

    def add_rule(self, rule: Rule) -> None:
        with _asking(f"rule {rule.priority}", errno.EEXIST):
            self.route.rule("add", **_rule_request(rule))

    def remove_rule(self, rule: Rule) -> None:
        with _asking(f"remove rule {rule.priority}", errno.ENOENT):
            self.route.rule("del", **_rule_request(rule))


def _way_request(way: Way) -> dict[str, Any]:
    kind = {} if way.device else {"type": "blackhole"}
    return {
        "family": _FAMILIES[way.family],
        "dst": way.destination or _EVERYTHING[way.family],
        "table": way.table,
        "priority": way.metric,
        **kind,
    }


def _form(link: interfaces.Link) -> str:
    """In the words of `lowering.device_form`, or in others if it is something else."""
    about = dict(netlink.attributes(link.parts.get(18, b"")))
    kind = netlink.text(about.get(1))
    if kind != "vxlan":
        return kind or "device"
    data = dict(netlink.attributes(about.get(2, b"")))
    words = [
        "external" if netlink.number(data.get(25)) else "fixed",
        "learning" if netlink.number(data.get(7)) else "nolearning",
        "noarp" if link.flags & _NOARP else "arp",
    ]
    return f"vxlan {' '.join(words)} port {int.from_bytes(data.get(15, b''), 'big')}"


def rule(family: str, payload: bytes) -> Rule:
    """Of the kernel's message, whoever's rule it is."""
    parts = dict(netlink.attributes(payload[12:]))
    return Rule(
        family=family,
        priority=netlink.number(parts.get(6)),
        mark=netlink.number(parts.get(10)),
        mask=netlink.number(parts.get(16)),
        table=netlink.number(parts.get(15)) or payload[4],
    )


def _rule_request(rule: Rule) -> dict[str, Any]:
    return {
        "family": _FAMILIES[rule.family],
        "priority": rule.priority,
        "fwmark": rule.mark,
        "fwmask": rule.mask,
        "table": rule.table,
    }


def _named(program: str, number: int) -> str:
    """A route tells of its program nothing but the name it was given: so that holds the id."""
    return f"{program}#{number}"


def _way(place: tuple[str, int], found: interfaces.Route, names: dict[int, str], program_id: int) -> Way:
    encap = dict(netlink.attributes(found.parts.get(22, b"")))
    program = dict(netlink.attributes(encap.get(1, b"")))
    return Way(
        *place,
        metric=found.metric,
        device="" if found.kind == _BLACKHOLE else names.get(found.index, f"interface {found.index}"),
        program=netlink.text(program.get(2)).removesuffix(_named("", program_id)),
        destination=found.destination,
        gateway=found.gateway,
    )
