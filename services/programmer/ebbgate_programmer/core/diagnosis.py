"""Facts of a node → findings: what is in the way of its traffic, and what to do. Part of `doctor`.

Each check is a function of its own that yields what is wrong, and a line for when nothing is. The node itself
is looked at here, others' things in `strangers`, ours in `belongings`. It never says more than was read: what
couldn't be is a finding too.
"""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from ebbgate_programmer.core import belongings, lowering, places, strangers
from ebbgate_programmer.core.symptoms import Answer, Facts, Finding, Severity

KERNEL = (5, 10)
"""As `check` has it."""
_TCX = (6, 6)
NEEDED = (
    "BPF_SYSCALL", "LWTUNNEL_BPF", "VXLAN", "NF_TABLES", "NFT_CT", "NFT_NAT", "NFT_FIB",
    "NF_CONNTRACK_MARK", "NF_CT_NETLINK", "IP_MULTIPLE_TABLES",
)  # fmt: skip
"""Build options without which a part of the data plane isn't there."""
BY_TCX, BY_CLSACT = ("NET_XGRESS",), ("NET_CLS_ACT", "NET_CLS_BPF", "NET_SCH_INGRESS")
"""And those for attaching programs, by the kernel's age."""
_STRICT = "1"
_FULL, _NEARLY_FULL = 0.95, 0.75
_IPV6_MIN_MTU = 1280
_FORWARDING = {"ipv4": "net/ipv4/ip_forward", "ipv6": "net/ipv6/conf/all/forwarding"}
_BRIDGE = "net/bridge/bridge-nf-call-iptables"
Check = Callable[[Facts], Iterator[Finding]]


def diagnose(facts: Facts) -> list[Finding]:
    """At least one for each check, in the order in which one would look."""
    found: list[Finding] = []
    for name, check, fine in CHECKS:
        found += list(check(facts)) or [Finding(name, Severity.OK, fine(facts))]
    return found


def has_problem(found: Iterable[Finding]) -> bool:
    return any(each.severity is Severity.PROBLEM for each in found)


def text(found: Iterable[Finding]) -> str:
    """A line for each finding, and one with what to do about it."""
    lines = []
    for each in found:
        word = each.severity.upper() if each.severity is Severity.PROBLEM else each.severity
        lines.append(f"{word:<8}  {each.check:<11}  {each.seen}")
        lines += [f"{'':<8}  {'':<11}  → {each.advice}"] if each.advice else []
    return "\n".join(lines)


def as_json(found: list[Finding]) -> str:
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode()


def dotted(path: str) -> str:
    """A setting as `sysctl` takes it: a dot in an interface's name is written `/`."""
    return path.translate(str.maketrans("./", "/."))


def _kernel(facts: Facts) -> Iterator[Finding]:
    """version       5.10 or newer   older, or unknown
    fine            problem
    """
    if facts.version < KERNEL:
        wanted = ".".join(map(str, KERNEL))
        seen = f"kernel {facts.release or 'unknown'}: parts of BPF that Ebbgate needs came later"
        yield Finding("kernel", Severity.PROBLEM, seen, f"boot a kernel of version {wanted} or newer")
    needed = (*NEEDED, *(BY_TCX if _has_tcx(facts) else BY_CLSACT))
    missing = [name for name in needed if facts.options and name not in facts.options]
    if missing:
        seen = f"the kernel was built without {', '.join(f'CONFIG_{name}' for name in missing)}"
        yield Finding("kernel", Severity.PROBLEM, seen, "use the distribution's own kernel, or set these")


def _has_tcx(facts: Facts) -> bool:
    return facts.version >= _TCX


def _kernel_fine(facts: Facts) -> str:
    return f"{facts.release}; programs are attached by {'tcx' if _has_tcx(facts) else 'filters under clsact'}"


def _needs(facts: Facts) -> Iterator[Finding]:
    for phrase in facts.lacks:
        if not phrase.startswith("kernel "):  # `_kernel` says it
            advice = (
                "see `ebbgate-programmer check`; in Kubernetes the DaemonSet's securityContext and mounts"
            )
            yield Finding("needs", Severity.PROBLEM, f"missing: {phrase}", advice)


def _reading(facts: Facts) -> Iterator[Finding]:
    for phrase in facts.unread:
        yield Finding("reading", Severity.WARNING, f"not looked at: {phrase}", "run it as root on the node")


def _conntrack(facts: Facts) -> Iterator[Finding]:
    """entries / limit   ≥ 95 %     ≥ 75 %     less
                         problem    warning    fine
    refused or dropped ones since the node started: a warning
    """
    table = facts.conntrack
    if table is None:
        return
    wanted = max(2 * table.limit, 262144)
    advice = f"sysctl -w net.netfilter.nf_conntrack_max={wanted}; more gateways share the load"
    fill = table.count / table.limit if table.limit else 0.0
    if fill >= _NEARLY_FULL:
        severity = Severity.PROBLEM if fill >= _FULL else Severity.WARNING
        seen = f"{table.count} of {table.limit} entries: new connections fail when it is full"
        yield Finding("conntrack", severity, seen, advice)
    if table.dropped:
        seen = f"{table.dropped} packets were dropped for want of room since the node started"
        yield Finding("conntrack", Severity.WARNING, seen, advice)
    if table.refused:
        seen = f"{table.refused} connections found no free port, or lost a race, since the node started"
        more = "if `ebbgate top` shows ports_exhausted growing: more egress IPs or gateways"
        yield Finding("conntrack", Severity.WARNING, seen, more)


def _rp_filter(facts: Facts) -> Iterator[Finding]:
    """max(all, device)   ebbgate0, or holds an egress IP    another uplink
    0 off, 2 loose        fine                               fine
    1 strict              problem                            warning: nothing of ours needs it yet
    """
    for name in dict.fromkeys((places.DEVICE, *facts.uplinks)):
        values = [facts.settings.get(places.rp_filter(each), "") for each in ("all", name)]
        if max(values) != _STRICT:
            continue
        needs = name == places.DEVICE or name in facts.egress_interfaces
        yield Finding(
            "rp_filter",
            Severity.PROBLEM if needs else Severity.WARNING,
            f"{name} is filtered strictly: answers that come by another way than they would go are lost",
            f"sysctl -w {dotted(places.rp_filter(name))}={places.RP_FILTER_LOOSE}, and at boot",
        )


def _forwarding(facts: Facts) -> Iterator[Finding]:
    """global   of a device of ours   something of the family is forwarded here   nothing is
    on       on                    fine                                        fine
    off      (follows)             problem                                     warning
    on       off                   problem, IPv4 only                          warning
    """
    for family, path in _FORWARDING.items():
        severity = Severity.PROBLEM if family in facts.families else Severity.WARNING
        devices = [f"net/ipv4/conf/{name}/forwarding" for name in (places.DEVICE, *facts.uplinks)]
        asked = [path] if facts.settings.get(path) == "0" else devices if family == "ipv4" else []
        for each in asked:
            if facts.settings.get(each) == "0":
                seen = f"{dotted(each)} is off: this node forwards no {family} there"
                advice = f"sysctl -w {dotted(each)}=1, and wherever it is set at boot"
                yield Finding("forwarding", severity, seen, advice)


def _mtu(facts: Facts) -> Iterator[Finding]:
    """ebbgate0 against the underlay less 50 or 70   larger: problem   smaller: warning
    underlay less that < 1280                 problem if IPv6 is steered here: the kernel has none below
    """
    mtus = {link.name: link.mtu for link in facts.links}
    of_device = mtus.get(places.DEVICE, 0)
    overhead = places.TUNNEL_OVERHEAD[lowering.underlay(facts.held.peers if facts.held else ())]
    wanted = facts.environment.underlay_mtu - overhead if facts.environment else 0
    if of_device and wanted and of_device != wanted:
        lost = of_device > wanted
        seen = f"{places.DEVICE} has {of_device}, the underlay less the tunnel's headers {wanted}: "
        yield Finding(
            "mtu",
            Severity.PROBLEM if lost else Severity.WARNING,
            seen + ("larger packets are lost" if lost else "packets are smaller than need be"),
            f"a running programmer sets it; ip link set {places.DEVICE} mtu {wanted}",
        )
    elif of_device and of_device < _IPV6_MIN_MTU and "ipv6" in facts.families:
        seen = f"{places.DEVICE} has {of_device}, and IPv6 needs {_IPV6_MIN_MTU}: no IPv6 goes by the tunnel"
        advice = f"give the underlay at least {_IPV6_MIN_MTU + overhead}"
        yield Finding("mtu", Severity.PROBLEM, seen, advice)
    of_uplinks = {name: mtus[name] for name in facts.uplinks if name in mtus}
    if len(set(of_uplinks.values())) > 1:
        seen = "uplinks differ: " + ", ".join(f"{name} {mtu}" for name, mtu in sorted(of_uplinks.items()))
        yield Finding("mtu", Severity.WARNING, seen, "PMTU discovery must work outside; else make them equal")


def _routes(facts: Facts) -> Iterator[Finding]:
    for family in sorted(facts.families):
        if not any(family in each.default_route for each in facts.interfaces):
            seen = f"no default route for {family}, of which something is forwarded here"
            yield Finding("routes", Severity.WARNING, seen, "ip route show; only what has a route can leave")


def _bus(facts: Facts) -> Iterator[Finding]:
    """answers   has the plan
    no                       problem: what is in the kernel goes on, and no change comes
    yes       no             problem
    """
    bus = facts.bus
    if bus is not None and not bus.is_there:
        seen = f"NATS doesn't answer at {bus.url}: this node gets no changes, what it has goes on"
        yield Finding("bus", Severity.PROBLEM, seen, "is it up, and does a firewall let this node reach it?")
    elif bus is not None and not bus.has_plan:
        seen = f"NATS answers at {bus.url}, and its stream PLAN can't be read"
        yield Finding(
            "bus", Severity.PROBLEM, seen, "has a resolver run? is this node's user allowed to read it?"
        )


def _peers(facts: Facts) -> Iterator[Finding]:
    """silent        as an open port is: fine, and unknown
    closed        problem: the host answers, nobody listens
    unreachable   problem
    """
    for address, answer in facts.answers.items():
        if answer is Answer.CLOSED:
            seen = f"{address} answers, but nothing listens on UDP {facts.port} there"
            advice = "is that node's programmer running, with this port? `ebbgate nodes`"
            yield Finding("peers", Severity.PROBLEM, seen, advice)
        elif answer is Answer.UNREACHABLE:
            seen = f"{address} can't be reached: no route, no neighbour, or a firewall says no"
            yield Finding("peers", Severity.PROBLEM, seen, f"ip route get {address}; allow UDP {facts.port}")


def _peers_fine(facts: Facts) -> str:
    if not facts.answers:
        return "no other node to ask"
    return (
        f"{len(facts.answers)} asked on UDP {facts.port}, none says no; none answers either, as an open port "
        "doesn't, nor a firewall that drops"
    )


def _mtu_fine(facts: Facts) -> str:
    there = any(link.name == places.DEVICE for link in facts.links)
    return f"{places.DEVICE} fits into the underlay" if there else f"no {places.DEVICE} yet"


def _conntrack_fine(facts: Facts) -> str:
    table = facts.conntrack
    return f"{table.count} of {table.limit} entries" if table else "no table yet, or it can't be read"


def _bridge_fine(facts: Facts) -> str:
    value = facts.settings.get(_BRIDGE, "")
    said = {"1": "pass through iptables", "0": "don't pass through iptables"}.get(value)
    return (
        f"bridged packets {said} ({dotted(_BRIDGE)}={value}); either will do" if said else "no br_netfilter"
    )


def _nothing(_: Facts) -> Iterator[Finding]:
    yield from ()


CHECKS: tuple[tuple[str, Check, Callable[[Facts], str]], ...] = (
    ("kernel", _kernel, _kernel_fine),
    ("needs", _needs, lambda _: "capabilities, bpf filesystem, nft, libbpf and BPF object are there"),
    ("reading", _reading, lambda _: "everything could be read"),
    (
        "installed",
        belongings.look,
        lambda _: "device, programs, guards, rules, routes and tables are in place",
    ),
    ("conntrack", _conntrack, _conntrack_fine),
    ("rp_filter", _rp_filter, lambda _: "off or loose where it matters"),
    ("forwarding", _forwarding, lambda _: "on"),
    ("mtu", _mtu, _mtu_fine),
    ("routes", _routes, lambda _: "default routes are there"),
    ("bridge", _nothing, _bridge_fine),
    ("marks", strangers.marks, lambda _: "nobody else touches our bits of the packet mark"),
    ("ip rules", strangers.rules, lambda _: "nobody else's rule stands in our place or asks for our marks"),
    ("vxlan", strangers.vxlan, lambda facts: f"nobody else has UDP port {facts.port}"),
    ("nat", strangers.nat, lambda _: "no other NAT chain is ahead of ours"),
    ("forward", strangers.forward, lambda _: "no firewall drops what is forwarded"),
    ("bus", _bus, lambda facts: "NATS answers, and has the plan" if facts.bus else "not asked: no --nats"),
    ("peers", _peers, _peers_fine),
)
"""Name, what is wrong, and what to say if nothing is."""
