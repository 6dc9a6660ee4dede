"""What `nft -j list table` says, as parts of a KernelState: the way back from `firewall`.

Parses only; objects in our tables that we didn't make show up as lines of `chains` that nobody wants, so
that the difference rebuilds the table.
"""

from typing import Any

import msgspec

from ebbgate_programmer.core import cidrs, firewall, marks


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """Named as in KernelState."""

    chains: tuple[str, ...] = ()
    covered: frozenset[str] = frozenset()
    cluster: frozenset[str] = frozenset()
    covered6: frozenset[str] = frozenset()
    cluster6: frozenset[str] = frozenset()
    egress: dict[int, str] = {}


def parse(listings: list[bytes]) -> Read:
    """`listings`: one JSON text per family's table that exists."""
    lines: list[str] = []
    held: dict[tuple[str, str], list[Any]] = {}
    for listing in listings:
        objects = msgspec.json.decode(listing)["nftables"]
        lines += _rule_lines([item["rule"] for item in objects if "rule" in item])
        for item in objects:
            _read_object(item, lines, held)
    egress = {marks.field_of(mark): ip for mark, ip in held.get(("ip", "egress"), [])}
    lines += _guard_faults(egress, held)
    return Read(
        chains=tuple(sorted(lines)),
        covered=frozenset(held.get(("ip", "covered"), [])),
        cluster=_networks(held.get(("ip", "cluster"), [])),
        covered6=frozenset(held.get(("ip6", "covered"), [])),
        cluster6=_networks(held.get(("ip6", "cluster"), [])),
        egress=egress,
    )


def _read_object(item: dict[str, Any], lines: list[str], held: dict[tuple[str, str], list[Any]]) -> None:
    if "chain" in item:
        lines.append(_chain_line(item["chain"]))
    for kind in ("set", "map"):
        if kind in item:
            found = item[kind]
            lines.append(f"{found['family']} set {found['name']} {found.get('size', 0)}")
            held[found["family"], found["name"]] = found.get("elem", [])


def _chain_line(chain: dict[str, Any]) -> str:
    hook = f"{chain['type']} {chain['hook']} {chain['prio']}" if "hook" in chain else ""
    policy = chain.get("policy", "accept")
    return f"{chain['family']} {chain['name']} {hook}" + ("" if policy == "accept" else f" {policy}")


def _rule_lines(rules: list[dict[str, Any]]) -> list[str]:
    numbers: dict[tuple[str, str], int] = {}
    lines = []
    for rule in rules:
        at = (rule["family"], rule["chain"])
        number = numbers.get(at, 0)
        numbers[at] = number + 1
        lines.append(firewall.rule_line(*at, number, rule.get("comment", "without comment")))
    return lines


def _guard_faults(egress: dict[int, str], held: dict[tuple[str, str], list[Any]]) -> list[str]:
    """The guards' sets must say the same as the map; a line that nobody wants if they don't."""
    wanted = {(marks.mark_of(slot), ip) for slot, ip in egress.items()}
    leaving = {tuple(item["concat"]) for item in held.get(("ip", "leaving"), [])}
    slots = {tuple(item["concat"]) for item in held.get(("ip", "slots"), [])}
    agree = leaving == wanted and slots == {(mark, mark) for mark, _ in wanted}
    return [] if agree else ["the guards' sets disagree with the map"]


def _networks(found: list[Any]) -> frozenset[str]:
    """In the form that lowering gives them."""
    return cidrs.collapse(network for item in found for network in _network(item))


def _network(item: Any) -> list[str]:
    if isinstance(item, str):
        return [item]
    if "prefix" in item:
        return [f"{item['prefix']['addr']}/{item['prefix']['len']}"]
    first, last = item["range"]
    return cidrs.between(first, last)
