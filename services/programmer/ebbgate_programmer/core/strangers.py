"""Of diagnosis: others' things on the node that are in the way of ours.

Others may have rules of every kind; a problem is what takes our traffic for certain, a warning what may.
"""

from collections.abc import Iterator, Mapping

from ebbgate_programmer.core import marks as own_marks
from ebbgate_programmer.core import places, ruleset
from ebbgate_programmer.core.kernelstate import Rule
from ebbgate_programmer.core.ruleset import Chain
from ebbgate_programmer.core.ruleset import Rule as FilterRule
from ebbgate_programmer.core.symptoms import Facts, Finding, Severity

_NAMED_MAX = 5
"""Findings of a kind; a firewall may have hundreds of rules of a kind."""
_NAT_PRIORITY = -199
_ELSEWHERE = (0, 255)
"""Tables of VRFs' devices, and the local one: not where a pod's traffic to the outside would go."""
_OURS = (places.NFT_TABLE, places.NFT_GUARD)


def _others(facts: Facts) -> list[Chain]:
    return [chain for chain in facts.chains if chain.table not in _OURS]


def marks(facts: Facts) -> Iterator[Finding]:
    """A rule that writes bits of ours: problem; one that asks for them: warning."""
    mask = own_marks.MASK
    rules = [rule for chain in _once(_others(facts)) for rule in chain.rules]
    written = [(rule, rule.writes & mask) for rule in rules if rule.writes & mask]
    read = [(rule, rule.reads & mask) for rule in rules if rule.reads & mask and not rule.writes & mask]
    advice = f"give the other tool marks outside {mask:#x}, and masks with them"
    for rule, bits in written[:_NAMED_MAX]:
        yield Finding("marks", Severity.PROBLEM, f"{rule.text} writes bits {bits:#x}, which are ours", advice)
    for rule, bits in read[:_NAMED_MAX]:
        yield Finding(
            "marks", Severity.WARNING, f"{rule.text} asks for bits {bits:#x}, which are ours", advice
        )
    more = max(0, len(written) - _NAMED_MAX) + max(0, len(read) - _NAMED_MAX)
    if more:
        yield Finding("marks", Severity.WARNING, f"{more} more rules touch our bits", advice)


def _once(chains: list[Chain]) -> Iterator[Chain]:
    """Without nft's view of those of which iptables tells more."""
    saved = {chain.place for chain in chains if chain.tool in ruleset.FAMILIES}
    return (chain for chain in chains if chain.tool != "nft" or chain.place not in saved)


def rules(facts: Facts) -> Iterator[Finding]:
    """stands                              asks for a mark         severity
    at our priority                     whatever                problem: the programmer removes it
    before ours                         with bits of ours       problem
    before ours                         none                    warning: it sees our traffic first
    behind ours                         with bits of ours       warning
    elsewhere, or to local addresses    none, or others' bits   fine
    """
    for rule in facts.rules:
        if not _is_ours(rule) and (found := _judge(rule)):
            yield found


def _judge(rule: Rule) -> Finding | None:
    name = named(rule)
    before = rule.priority < places.PRIORITY_TUNNEL
    advice = f"give it a priority above {places.PRIORITY_LOCAL}, or marks outside {own_marks.MASK:#x}"
    if rule.priority in places.PRIORITIES:
        seen = f"{name} stands in our place: the programmer takes it out"
        return Finding("ip rules", Severity.PROBLEM, seen, advice)
    if rule.mask & own_marks.MASK:
        severity = Severity.PROBLEM if before else Severity.WARNING
        return Finding("ip rules", severity, f"{name} asks for bits of the mark that are ours", advice)
    if before and not rule.mask and rule.table not in _ELSEWHERE:
        seen = f"{name} is asked before ours, and takes what it finds a route for"
        return Finding("ip rules", Severity.WARNING, seen, advice)
    return None


def named(rule: Rule) -> str:
    mark = f"fwmark {rule.mark:#x}/{rule.mask:#x} " if rule.mask else ""
    return f"the {rule.family} rule {rule.priority} ({mark}lookup {rule.table})"


def _is_ours(rule: Rule) -> bool:
    mask = own_marks.TUNNEL_MASK if rule.priority == places.PRIORITY_TUNNEL else own_marks.MASK
    return rule.priority in places.PRIORITIES and rule.mask == mask and rule.table in places.TABLES


def vxlan(facts: Facts) -> Iterator[Finding]:
    for link in facts.links:
        if link.vxlan_port == facts.port and link.name != places.DEVICE:
            seen = f"{link.name} is a VXLAN device on UDP port {facts.port} too: two can't share one"
            advice = f"give {link.name} another port, or Ebbgate on all nodes (--port, EBBGATE_PORT)"
            yield Finding("vxlan", Severity.PROBLEM, seen, advice)


def nat(facts: Facts) -> Iterator[Finding]:
    """The first chain that translates wins, and of equal priority the one that came last is first."""
    for chain in _others(facts):
        is_nat = (chain.tool, chain.kind, chain.hook) == ("nft", "nat", "postrouting")
        if is_nat and chain.priority <= _NAT_PRIORITY:
            seen = f"the nat chain {' '.join(chain.place)} (priority {chain.priority}) is asked before ours"
            advice = f"give it a priority above {_NAT_PRIORITY}, as srcnat (100) is"
            yield Finding("nat", Severity.PROBLEM, seen, advice)


def forward(facts: Facts) -> Iterator[Finding]:
    """a forward chain that ends in drop or reject, and …        severity
    a rule in it accepts all of ebbgate0                      fine
    a rule in it may accept some                              warning
    none does                                                 problem
    """
    chains = {(chain.tool, *chain.place): chain for chain in facts.chains}
    for chain in _others(facts):
        if chain.hook != "forward" or chain.kind != "filter" or not _closes(chain):
            continue
        ways = [_passes(chain, chains, side) for side in ("incoming", "outgoing")]
        if min(ways) == _PASSES:
            continue
        certain = min(ways) == _DROPS
        seen = f"{chain.tool} {' '.join(chain.place)} drops what no rule accepts, and " + (
            f"none accepts all that comes or goes by {places.DEVICE}"
            if certain
            else f"only some rule may accept what comes or goes by {places.DEVICE}"
        )
        yield Finding("forward", Severity.PROBLEM if certain else Severity.WARNING, seen, _allow(chain))


def _closes(chain: Chain) -> bool:
    last = chain.rules[-1] if chain.rules else None
    is_last = last is not None and last.verdict in ("drop", "reject") and not last.depends
    return chain.policy == "drop" or (is_last and last is not None and not last.incoming + last.outgoing)


_DROPS, _MAY_PASS, _PASSES = 0, 1, 2


def _passes(
    chain: Chain, chains: Mapping[tuple[str, str, str, str], Chain], side: str, depth: int = 0
) -> int:
    """The best that a rule of the chain, or of those it leads to, does for a new connection on `side`."""
    best = _DROPS
    for rule in chain.rules:
        if not _is_for(rule, side):
            continue
        is_sure = not rule.depends and not (rule.outgoing if side == "incoming" else rule.incoming)
        if rule.verdict == "accept":
            best = max(best, _PASSES if is_sure else _MAY_PASS)
        target = chains.get((chain.tool, chain.family, chain.table, rule.target))
        if rule.target and target and depth < 16:
            found = _passes(target, chains, side, depth + 1)
            best = max(best, found if is_sure else min(found, _MAY_PASS))
    return best


def _is_for(rule: FilterRule, side: str) -> bool:
    """Nothing goes from the tunnel into the tunnel: what is for the one way is not for the other."""
    pair = (rule.incoming, rule.outgoing)
    devices, others = pair if side == "incoming" else reversed(pair)
    if rule.never or (others and all(map(_is_device, others))):
        return False
    return not devices or any(map(_is_device, devices))


def _is_device(name: str) -> bool:
    """`ebb*` is nft's way, `ebb+` iptables'."""
    return name == places.DEVICE or (name[-1:] in ("*", "+") and places.DEVICE.startswith(name[:-1]))


def _allow(chain: Chain) -> str:
    device = places.DEVICE
    if chain.table == "firewalld":
        return f"firewall-cmd --permanent --zone=trusted --add-interface={device} && firewall-cmd --reload"
    if any(rule.target.startswith("ufw") for rule in chain.rules):
        return f"ufw route allow in on {device} && ufw route allow out on {device}"
    if chain.name == "FORWARD":
        by_family = "ip6tables" if chain.family == "ip6" else "iptables"
        tool = by_family if chain.tool == "nft" else chain.tool
        return f"{tool} -I FORWARD -i {device} -j ACCEPT && {tool} -I FORWARD -o {device} -j ACCEPT"
    rule = f"nft insert rule {' '.join(chain.place)}"
    return f"{rule} iifname {device} accept && {rule} oifname {device} accept"
