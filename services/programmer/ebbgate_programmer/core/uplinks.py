"""Uplinks: by which interface and next hop traffic with an egress IP leaves. Part of lowering.

Traffic leaves by the interface that holds its egress IP, along that interface's own routes. Where that is the
interface of the default route, or one without a default route of its own (an address on lo or a dummy that
BGP announces), the main table does what is wanted and there is nothing here. The others get a class: a mark
that nft gives by slot, a rule by mark, and a table with the interface's routes before a blackhole, so that
what can't leave there doesn't leave elsewhere.
"""

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ebbgate_bus.contracts.reports import Problem
from ebbgate_programmer.core import marks, places
from ebbgate_programmer.core.kernelstate import PathValue, Rule, Way


class Hop(msgspec.Struct, frozen=True, order=True):
    """A route by the interface. `destination`: CIDR, empty for everything; `gateway`: next hop, or empty."""

    family: str
    destination: str
    gateway: str


class Uplink(msgspec.Struct, frozen=True):
    """An Ethernet interface with addresses. `is_default`: it has a default route, in whatever table. `hops`:
    its routes, of the families whose default route by it isn't the node's own; else empty.
    """

    is_default: bool = False
    hops: tuple[Hop, ...] = ()


class Leg(msgspec.Struct, frozen=True):
    """A unicast route as read. `destination`: CIDR, empty for everything; `gateway`: next hop, or empty."""

    interface: str
    destination: str
    gateway: str
    metric: int


class Routing(msgspec.Struct, frozen=True):
    """Of one family. `main`: the main table. `by_source`: other tables in the order of the rules that lead to
    them, each with the sources that the rule is for.
    """

    main: tuple[Leg, ...] = ()
    by_source: tuple[tuple[str, tuple[Leg, ...]], ...] = ()


def find(addresses_: Mapping[str, Sequence[str]], routing: Mapping[str, Routing]) -> dict[str, Uplink]:
    """`addresses_`: of Ethernet interfaces, in CIDR notation. `routing`: by family."""
    return {name: _uplink(name, held, routing) for name, held in addresses_.items()}


def _uplink(name: str, held: Sequence[str], routing: Mapping[str, Routing]) -> Uplink:
    hops: list[Hop] = []
    is_default = False
    for family, of in routing.items():
        if name in _best(of.main):
            is_default = True
        elif (default := _default(name, held, of)) is not None:
            is_default = True
            own = (leg for leg in of.main if leg.interface == name and leg.destination)
            hops += [Hop(family, leg.destination, leg.gateway) for leg in (*own, default)]
    return Uplink(is_default, tuple(sorted(set(hops))))


def _best(main: Sequence[Leg]) -> set[str]:
    """Interfaces of the node's own default route."""
    defaults = [leg for leg in main if not leg.destination]
    metric = min((leg.metric for leg in defaults), default=0)
    return {leg.interface for leg in defaults if leg.metric == metric}


def _default(name: str, held: Sequence[str], of: Routing) -> Leg | None:
    """The interface's default route: of a table that a rule for its addresses leads to, else of main."""
    tables = [legs for source, legs in of.by_source if _covers(source, held)]
    for legs in (*tables, of.main):
        own = [leg for leg in legs if leg.interface == name and not leg.destination]
        if own:
            return min(own, key=lambda leg: (leg.metric, leg.gateway))
    return None


def _covers(source: str, held: Sequence[str]) -> bool:
    network = ipaddress.ip_network(source, strict=False)
    return any(ipaddress.ip_interface(each).ip in network for each in held)


class Leaving(msgspec.Struct, frozen=True):
    """`classes`: slot → class."""

    classes: dict[int, int] = {}
    rules: frozenset[Rule] = frozenset()
    ways: frozenset[Way] = frozenset()
    problems: tuple[Problem, ...] = ()


def lower(interfaces: Mapping[int, str], paths: Iterable[PathValue], known: Mapping[str, Uplink]) -> Leaving:
    """`interfaces`: slot → interface. `paths`: of local pods: their slots are marks, and need rules."""
    apart = sorted({name for name in interfaces.values() if name in known and known[name].hops})
    numbers, homeless = _number(apart)
    classes = {slot: numbers[name] for slot, name in interfaces.items() if name in numbers}
    local = {path.slot for path in paths if path.local}
    rules, ways = set[Rule](), set[Way]()
    for name, number in numbers.items():
        families = {hop.family for hop in known[name].hops}
        own = sorted(local & {slot for slot, at in interfaces.items() if at == name})
        for family in families:
            rules |= _rules(family, number, own)
            ways.add(Way(family, places.TABLE_UPLINK + number, places.METRIC_BLACKHOLE))
        ways |= {_way(number, name, hop) for hop in known[name].hops}
    problems = tuple(
        Problem(
            reason=f"more than {len(marks.CLASSES)} uplinks: egress IPs of {name} leave by the default route"
        )
        for name in homeless
    )
    return Leaving(classes, frozenset(rules), frozenset(ways), problems)


def _number(names: Iterable[str]) -> tuple[dict[str, int], list[str]]:
    """A class for each, the same for the same name unless another has it; and those without."""
    numbers: dict[str, int] = {}
    homeless = []
    free = list(marks.CLASSES)
    for name in names:
        if not free:
            homeless.append(name)
            continue
        first = hashlib.blake2b(name.encode(), digest_size=4).digest()[0] % len(marks.CLASSES)
        probe = [marks.CLASSES[(first + step) % len(marks.CLASSES)] for step in range(len(marks.CLASSES))]
        numbers[name] = next(number for number in probe if number in free)
        free.remove(numbers[name])
    return numbers, homeless


def _rules(family: str, number: int, local: Iterable[int]) -> set[Rule]:
    table = places.TABLE_UPLINK + number
    by_slot = {Rule(family, places.PRIORITY_LOCAL, marks.mark_of(slot), marks.MASK, table) for slot in local}
    return by_slot | {Rule(family, places.PRIORITY_UPLINK, marks.mark_of(number), marks.MASK, table)}


def _way(number: int, name: str, hop: Hop) -> Way:
    return Way(
        family=hop.family,
        table=places.TABLE_UPLINK + number,
        metric=places.METRIC_FIRST,
        device=name,
        destination=hop.destination,
        gateway=hop.gateway,
    )
