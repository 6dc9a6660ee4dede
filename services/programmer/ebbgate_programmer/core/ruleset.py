"""Everybody's packet filters, as far as they matter to us: which mark bits they touch, what they let pass.

From `nft -j -t list ruleset` and `iptables-save`: nft doesn't say what an xt match or target does, and sees
nothing of iptables-legacy. Part of diagnosis. What isn't understood is taken for a condition that may hold.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

ALL_BITS = 0xFFFFFFFF
_VERDICTS = ("accept", "drop", "reject")
_JUMPS = ("jump", "goto")
_HARMLESS = ("counter", "log", "limit", "comment", *_VERDICTS, *_JUMPS)
FAMILIES = {"iptables": "ip", "ip6tables": "ip6"}


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """`text`: how to find it. `writes`, `reads`: bits of packet and connection marks. `verdict`: accept,
    drop, reject, or empty; `target`: the chain it jumps to, if there is one of that name. `incoming`,
    `outgoing`: the devices it is for, empty for any. `never`: not for new connections of all kinds.
    `depends`: on more than devices.
    """

    text: str
    writes: int = 0
    reads: int = 0
    verdict: str = ""
    target: str = ""
    incoming: tuple[str, ...] = ()
    outgoing: tuple[str, ...] = ()
    never: bool = False
    depends: bool = False


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """`hook`, `kind`, `priority`, `policy`: of a base chain, else empty. `tool`: who told of it: nft, or
    iptables by its name.
    """

    family: str
    table: str
    name: str
    hook: str = ""
    kind: str = ""
    priority: int = 0
    policy: str = "accept"
    rules: tuple[Rule, ...] = ()
    tool: str = "nft"

    @property
    def place(self) -> tuple[str, str, str]:
        return self.family, self.table, self.name


def parse_nft(listing: bytes) -> list[Chain]:
    """Chains of `nft -j list ruleset`. Raises msgspec.DecodeError, KeyError for what isn't that."""
    objects = msgspec.json.decode(listing)["nftables"]
    rules: dict[tuple[str, str, str], list[Rule]] = {}
    for each in (one["rule"] for one in objects if "rule" in one):
        place = (each["family"], each["table"], each["chain"])
        rules.setdefault(place, []).append(_rule(each))
    return [_chain(one["chain"], rules) for one in objects if "chain" in one]


def _chain(found: Mapping[str, Any], rules: Mapping[tuple[str, str, str], list[Rule]]) -> Chain:
    return Chain(
        family=found["family"],
        table=found["table"],
        name=found["name"],
        hook=found.get("hook", ""),
        kind=found.get("type", ""),
        priority=found.get("prio", 0),
        policy=found.get("policy", "accept"),
        rules=tuple(rules.get((found["family"], found["table"], found["name"]), ())),
    )


def _rule(found: Mapping[str, Any]) -> Rule:
    parts = [item for part in found["expr"] for item in part.items()]
    matches = [content for name, content in parts if name == "match"]
    verdict = next((name for name, _ in parts if name in _VERDICTS), "")
    return Rule(
        text=f"nft {found['family']} {found['table']} {found['chain']} handle {found['handle']}",
        writes=_union(_written(content) for name, content in parts if name == "mangle"),
        reads=_union(map(_read, matches)),
        verdict=verdict,
        target=next((content["target"] for name, content in parts if name in _JUMPS), ""),
        incoming=_devices(matches, ("iif", "iifname")),
        outgoing=_devices(matches, ("oif", "oifname")),
        never=any(map(_excludes_new, parts)),
        depends=any(_is_condition(name, content) for name, content in parts),
    )


def _union(bits: Iterable[int]) -> int:
    found = 0
    for each in bits:
        found |= each
    return found


def _is_mark(expression: Any) -> bool:
    return expression in ({"meta": {"key": "mark"}}, {"ct": {"key": "mark"}})


def _written(mangle: Mapping[str, Any]) -> int:
    return changed(mangle["value"], mangle["key"]) if _is_mark(mangle["key"]) else 0


def changed(value: Any, key: Any) -> int:
    """Bits that `key = value` may change.

    key itself          none
    one & number        those of one, and those that number clears
    one | number, ^     those of one, and number's
    anything else       all
    """
    if value == key:
        return 0
    for operator, flip in (("&", ALL_BITS), ("|", 0), ("^", 0)):
        if isinstance(value, dict) and operator in value:
            one, number = value[operator]
            return changed(one, key) | number ^ flip if isinstance(number, int) else ALL_BITS
    return ALL_BITS


def _read(match: Mapping[str, Any]) -> int:
    left = match["left"]
    if _is_mark(left):
        return _values(match["right"])
    if isinstance(left, dict) and "&" in left and _is_mark(left["&"][0]) and isinstance(left["&"][1], int):
        return int(left["&"][1])
    return 0


def _values(right: Any) -> int:
    """Bits of the numbers that are compared with; of a set with a name all may be."""
    if isinstance(right, int):
        return right
    if isinstance(right, dict) and "set" in right:
        return _union(map(_values, right["set"]))
    return ALL_BITS


def _devices(matches: Iterable[Mapping[str, Any]], keys: tuple[str, ...]) -> tuple[str, ...]:
    for match in matches:
        if match["op"] == "==" and match["left"] in [{"meta": {"key": key}} for key in keys]:
            right = match["right"]
            names = right["set"] if isinstance(right, dict) and "set" in right else [right]
            return tuple(name for name in names if isinstance(name, str))
    return ()


def _excludes_new(part: tuple[str, Any]) -> bool:
    """A match of connection states without `new`, or of ICMP only. An xt match's states aren't shown; rules
    for established connections are what it is used for.
    """
    name, content = part
    if name == "xt":
        return content is not None and content.get("name") in ("conntrack", "state")
    if name != "match" or content["op"] not in ("==", "in"):
        return False
    right = content["right"] if isinstance(content["right"], list) else [content["right"]]
    if content["left"] == {"ct": {"key": "state"}}:
        return "new" not in right
    return bool(right) and all(each in ("icmp", "ipv6-icmp", "icmpv6") for each in right)


def _is_condition(name: str, content: Any) -> bool:
    if name != "match":
        return name not in _HARMLESS
    keys = [{"meta": {"key": key}} for key in ("iif", "iifname", "oif", "oifname")]
    return content["op"] != "==" or content["left"] not in keys


def parse_saved(text: str, tool: str) -> list[Chain]:
    """Chains of `iptables-save` or `ip6tables-save` (`tool`: without `-save`). What its nf_tables variant
    shows nft shows too, but for marks that xt rules touch: of that one the chains are no base chains here.
    """
    is_legacy = "(nf_tables)" not in text
    policies: dict[tuple[str, str], str] = {}
    rules: dict[tuple[str, str], list[Rule]] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            name, policy, *_ = line[1:].split()
            policies[table, name] = policy.lower()
        elif line.startswith("-A "):
            name = line.split()[1]
            rules.setdefault((table, name), []).append(_saved_rule(line, table, tool))
    return [
        Chain(
            family=FAMILIES[tool],
            table=table,
            name=name,
            hook=name.lower() if is_legacy and policy != "-" else "",
            kind="nat" if table == "nat" else "filter",
            policy=policy if policy in _VERDICTS else "accept",
            rules=tuple(rules.get((table, name), ())),
            tool=f"{tool}-legacy" if is_legacy else tool,
        )
        for (table, name), policy in policies.items()
    ]


def _saved_rule(line: str, table: str, tool: str) -> Rule:
    options = dict(_options(line))
    target = options.get("-j", options.get("-g", ""))
    states = options.get("--ctstate", options.get("--state", "NEW"))
    return Rule(
        text=f"{tool} -t {table} {line}",
        writes=_union(_saved_writes(target, options)),
        reads=_masked(options["--mark"]) if "--mark" in options else 0,
        verdict=target.lower() if target.lower() in _VERDICTS else "",
        target=target,
        incoming=(options["-i"],) if "-i" in options else (),
        outgoing=(options["-o"],) if "-o" in options else (),
        never="NEW" not in states.split(",") or options.get("-p", "") in ("icmp", "ipv6-icmp"),
        depends=not {"-A", "-i", "-o", "-j", "-g"}.issuperset(options) or " ! " in line,
    )


def _options(line: str) -> Iterator[tuple[str, str]]:
    words = shlex.split(line)
    for place, word in enumerate(words):
        if word.startswith("-"):
            following = words[place + 1] if place + 1 < len(words) else ""
            yield word, "" if following.startswith("-") else following


def _saved_writes(target: str, options: Mapping[str, str]) -> Iterator[int]:
    if target not in ("MARK", "CONNMARK"):
        return
    for option in ("--set-xmark", "--set-mark"):
        if option in options:
            value, _, mask = options[option].partition("/")
            yield int(value, 0) | (int(mask, 0) if mask else ALL_BITS)
    if "--restore-mark" in options:
        yield int(options.get("--nfmask", hex(ALL_BITS)), 0)
    if "--save-mark" in options:
        yield int(options.get("--ctmask", hex(ALL_BITS)), 0)


def _masked(text: str) -> int:
    value, _, mask = text.partition("/")
    return int(mask or value, 0)
