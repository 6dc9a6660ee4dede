"""What `nft -j list table` would say, as parts of a KernelState: the way back from `firewall`.

Parses only; objects in our tables that we didn't make show up as lines of `chains` that nobody wants, so
that the difference rebuilds the table.
"""

from collections.abc import Iterable, Iterator, Set
from typing import Any

import msgspec

from ebbgate_programmer.core import cidrs, firewall, marks, places, sharded, signature_lines


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """Named as in KernelState."""

    chains: tuple[str, ...] = ()
    covered: Set[str] = frozenset()
    cluster: frozenset[str] = frozenset()
    egress: dict[int, str] = {}
    guards: dict[str, int] = {}
    """Rule of the guard's table that counts → packets, both families together. Not a part of KernelState."""
    uplinks: dict[int, int] = {}


Held = dict[tuple[str, str, str], list[Any]]
"""(family, table, set) → elements, as nft has them in JSON."""
_MAIN, _GUARD = places.NFT_TABLE, places.NFT_GUARD


def parse(objects: list[dict[str, Any]]) -> Read:
    """`objects`: of all tables that exist, as nft has them in JSON."""
    lines: list[str] = []
    held: Held = {}
    guards: dict[str, int] = {}
    rules = [item["rule"] for item in objects if "rule" in item]
    lines += _rule_lines(rules)
    _count(rules, guards)
    for item in objects:
        _read_object(item, lines, held)
    lines += _guard_faults(held)
    # Both tables say the same; where one is gone the other still knows, and nothing is forgotten.
    pairs = [*(item["concat"] for item in _found(held, "leaving")), *_found(held, "egress")]
    return Read(
        chains=tuple(sorted(lines)),
        covered=sharded.ShardedSet(dict.fromkeys(_found(held, "covered"))),
        cluster=_networks(_found(held, "cluster")),
        egress={marks.field_of(mark): at for mark, at in pairs},
        guards=guards,
        uplinks={marks.field_of(slot): marks.field_of(way) for slot, way in _found(held, "uplinks")},
    )


def _found(held: Held, name: str) -> Iterator[Any]:
    """In whichever tables."""
    return (item for place, items in held.items() if place[2] == name for item in items)


def _read_object(item: dict[str, Any], lines: list[str], held: Held) -> None:
    if "chain" in item:
        lines.append(_chain_line(item["chain"]))
    for kind in ("set", "map"):
        if kind in item:
            found = item[kind]
            place = (found["family"], found["table"], found["name"])
            lines.append(signature_lines.of_set(*place, found.get("size", 0)))
            held[place] = found.get("elem", [])


def _chain_line(chain: dict[str, Any]) -> str:
    hook = f"{chain['type']} {chain['hook']} {chain['prio']}" if "hook" in chain else ""
    policy = chain.get("policy", "accept")
    line = signature_lines.of_chain(chain["family"], chain["table"], chain["name"], hook)
    return line + ("" if policy == "accept" else f" {policy}")


def _rule_lines(rules: list[dict[str, Any]]) -> list[str]:
    numbers: dict[tuple[str, str, str], int] = {}
    lines = []
    for rule in rules:
        at = (rule["family"], rule["table"], rule["chain"])
        number = numbers.get(at, 0)
        numbers[at] = number + 1
        lines.append(signature_lines.of_rule(at, number, rule.get("comment", "without comment")))
    return lines


def _count(rules: list[dict[str, Any]], counts: dict[str, int]) -> None:
    for rule in rules:
        for expression in rule.get("expr", ()):
            if "counter" in expression:
                name = rule.get("comment", "").partition(":")[0]
                counts[name] = counts.get(name, 0) + expression["counter"]["packets"]


def _guard_faults(held: Held) -> list[str]:
    """The guards' sets must say the same as the main table's; a line that nobody wants if they don't."""
    faults = []
    for family in places.NFT_FAMILIES:
        egress = {tuple(item) for item in held.get((family, _MAIN, "egress"), [])}
        leaving = {tuple(item["concat"]) for item in held.get((family, _GUARD, "leaving"), [])}
        zones = {tuple(item) for item in held.get((family, _MAIN, "zones"), [])}
        wanted = {(mark, firewall.zone_of(marks.field_of(mark))) for mark, _ in egress}
        twins = [_networks(held.get((family, table, "cluster"), [])) for table in (_MAIN, _GUARD)]
        pods = [held.get((family, table, "covered"), []) for table in (_MAIN, _GUARD)]
        if leaving != egress or zones != wanted or twins[0] != twins[1] or not _alike(*pods):
            faults.append(f"{family}: the guards' sets disagree with the others")
    return faults


def _alike(some: list[Any], others: list[Any]) -> bool:
    """Whatever their order. There may be many, and mostly these are one list."""
    return some is others or frozenset(some) == frozenset(others)


def _networks(found: Iterable[Any]) -> frozenset[str]:
    """In the form that lowering gives them."""
    return cidrs.collapse(network for item in found for network in _network(item))


def _network(item: Any) -> list[str]:
    if isinstance(item, str):
        return [item]
    if "prefix" in item:
        return [f"{item['prefix']['addr']}/{item['prefix']['len']}"]
    first, last = item["range"]
    return cidrs.between(first, last)
