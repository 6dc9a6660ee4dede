"""What others may do to a node behind Ebbgate's back: take away a rule, a route, a device, a chain, a table,
a pin, or a program from where it is attached.

Whatever is there and isn't the lab's own or the kernel's may be hit, so nothing of how Ebbgate arranges its
things is known here. What is allowed to leave doesn't change by it: there is no "meanwhile" for damage.
"""

import errno
import json
import pathlib
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ebbgate_lab import lab
from ebbgate_programmer.io import bpf

ROUTING = ("rules", "routes", "links", "pins", "programs")
"""All that isn't nftables'."""
EVERYTHING = (*ROUTING, "chains", "tables")
_KERNELS_OWN = ("local", "main", "default")
_LABS_OWN = ("cni",)
_PROGRAM_ID = re.compile(r"#\d+")
_IP = (("ip", "-4"), ("ip", "-6"))

Command = tuple[str, ...]


class Place(msgspec.Struct, frozen=True):
    """A node, and where its programmer keeps what it pins."""

    scene: lab.Lab
    node: str

    def run(self, *argv: str) -> str:
        return self.scene.topology.run(self.node, *argv)

    def ask(self, *argv: str) -> list[Any]:
        found: list[Any] = json.loads(self.run(*argv) or "[]")
        return found

    @property
    def pins(self) -> list[pathlib.Path]:
        folder = self.scene.pin_path(self.node)
        return sorted(pin for pin in folder.rglob("*") if not pin.is_dir())


def draw(dice: random.Random, place: Place, kinds: Sequence[str]) -> Command | None:
    """A command that takes something away, or None if there is nothing of these kinds."""
    possible = list(_BY_KIND[dice.choice(kinds)](place))
    return dice.choice(possible) if possible else None


def picture(place: Place) -> tuple[object, ...]:
    """All that can be taken away, in words: equal again once it is repaired. What the kernel numbers anew and
    what a change may add to is left out.
    """
    rules = [_without(rule, "handle") for rule in _nft(place, "rule", "ruleset")]
    return (
        *sorted(command for kind in _BY_KIND.values() for command in kind(place)),
        *(
            _PROGRAM_ID.sub("", place.run(*ip, "route", "show", "table", table))
            for ip, table in _tables_of_routes(place)
        ),
        *sorted(json.dumps(rule) for rule in rules),
    )


def _rules(place: Place) -> Iterator[Command]:
    for ip in _IP:
        for rule in place.ask(*ip, "-j", "rule"):
            if rule["table"] not in _KERNELS_OWN:
                yield (*ip, "rule", "del", "priority", str(rule["priority"]))


def _routes(place: Place) -> Iterator[Command]:
    for ip, table in _tables_of_routes(place):
        yield (*ip, "route", "flush", "table", table)


def _tables_of_routes(place: Place) -> list[tuple[Command, str]]:
    return [
        (ip, table)
        for ip in _IP
        for table in sorted(
            {
                str(route.get("table", "main"))
                for route in place.ask(*ip, "-j", "route", "show", "table", "all")
            }
        )
        if table not in _KERNELS_OWN
    ]


def _links(place: Place) -> Iterator[Command]:
    for link in place.ask("ip", "-j", "link", "show", "type", "vxlan"):
        if "UP" in link.get("flags", ()):
            yield ("ip", "link", "del", link["ifname"])
            yield ("ip", "link", "set", link["ifname"], "down")


def _pins(place: Place) -> Iterator[Command]:
    for pin in place.pins:
        yield ("rm", str(pin))
    if place.pins:
        yield ("rm", "-r", str(place.scene.pin_path(place.node)))


def _programs(place: Place) -> Iterator[Command]:
    """Links that attach a program to a device; one whose device is gone attaches nothing."""
    for pin in place.pins:
        if pin.name.endswith("_link") and _is_attached(pin):
            yield ("bpftool", "link", "detach", "pinned", str(pin))


def _is_attached(pin: pathlib.Path) -> bool:
    try:
        with bpf.opened(pin) as link:
            _, index, _ = bpf.link_target(link)
    except bpf.Refused as refused:
        if refused.errno != errno.ENOENT:
            raise
        return False  # replaced meanwhile
    return bool(index)


def _chains(place: Place) -> Iterator[Command]:
    for chain in _nft(place, "chain", "chains"):
        if chain["table"] not in _LABS_OWN:
            yield ("nft", "flush", "chain", chain["family"], chain["table"], chain["name"])


def _tables(place: Place) -> Iterator[Command]:
    for table in _nft(place, "table", "tables"):
        if table["name"] not in _LABS_OWN:
            yield ("nft", "delete", "table", table["family"], table["name"])


_BY_KIND = {
    "rules": _rules,
    "routes": _routes,
    "links": _links,
    "pins": _pins,
    "programs": _programs,
    "chains": _chains,
    "tables": _tables,
}


def _nft(place: Place, what: str, listed: str) -> Iterator[Any]:
    said = json.loads(place.run("nft", "-s", "-j", "list", listed))
    return (entry[what] for entry in said["nftables"] if what in entry)


def _without(entry: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != key}
