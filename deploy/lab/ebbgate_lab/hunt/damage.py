"""What others may do to a node behind Ebbgate's back: take away a rule, a route, a device, a chain, a table.

Whatever is there and isn't the lab's own or the kernel's may be hit, so nothing of how Ebbgate arranges its
things is known here. What is allowed to leave doesn't change by it: there is no "meanwhile" for damage.
"""

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

from ebbgate_lab import topology

ROUTING = ("rules", "routes", "links")
EVERYTHING = (*ROUTING, "chains", "tables")
_KERNELS_OWN = ("local", "main", "default")
_LABS_OWN = ("cni",)

Command = tuple[str, ...]


def draw(dice: random.Random, network: topology.Topology, node: str, kinds: Sequence[str]) -> Command | None:
    """A command that takes something away on `node`, or None if there is nothing of these kinds."""
    possible = [command for kind in kinds for command in _BY_KIND[kind](network, node)]
    return dice.choice(possible) if possible else None


def picture(network: topology.Topology, node: str) -> tuple[object, ...]:
    """All that can be taken away, in words: equal again once it is repaired. Numbers of the kernel's own are
    left out.
    """
    rules = [_without(rule, "handle") for rule in _nft(network, node, "rule", "ruleset")]
    return (
        *sorted(command for kind in _BY_KIND.values() for command in kind(network, node)),
        network.run(node, "ip", "-4", "route", "show", "table", "all"),
        *sorted(json.dumps(rule) for rule in rules),
    )


def _rules(network: topology.Topology, node: str) -> Iterator[Command]:
    for rule in _ask(network, node, "ip", "-j", "rule"):
        if rule["table"] not in _KERNELS_OWN:
            yield ("ip", "rule", "del", "priority", str(rule["priority"]))


def _routes(network: topology.Topology, node: str) -> Iterator[Command]:
    routes = _ask(network, node, "ip", "-4", "-j", "route", "show", "table", "all")
    for table in sorted({str(route["table"]) for route in routes if "table" in route}):
        if table not in _KERNELS_OWN:
            yield ("ip", "route", "flush", "table", table)


def _links(network: topology.Topology, node: str) -> Iterator[Command]:
    for link in _ask(network, node, "ip", "-j", "link", "show", "type", "vxlan"):
        if "ifname" in link:
            yield ("ip", "link", "del", link["ifname"])


def _chains(network: topology.Topology, node: str) -> Iterator[Command]:
    for chain in _nft(network, node, "chain", "chains"):
        if chain["table"] not in _LABS_OWN:
            yield ("nft", "flush", "chain", chain["family"], chain["table"], chain["name"])


def _tables(network: topology.Topology, node: str) -> Iterator[Command]:
    for table in _nft(network, node, "table", "tables"):
        if table["name"] not in _LABS_OWN:
            yield ("nft", "delete", "table", table["family"], table["name"])


_BY_KIND = {"rules": _rules, "routes": _routes, "links": _links, "chains": _chains, "tables": _tables}


def _nft(network: topology.Topology, node: str, what: str, listed: str) -> Iterator[Any]:
    said = json.loads(network.run(node, "nft", "-s", "-j", "list", listed))
    return (entry[what] for entry in said["nftables"] if what in entry)


def _without(entry: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != key}


def _ask(network: topology.Topology, node: str, *argv: str) -> list[Any]:
    found: list[Any] = json.loads(network.run(node, *argv) or "[]")
    return found
