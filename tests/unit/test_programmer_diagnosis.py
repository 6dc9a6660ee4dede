"""Facts of a node → findings: the truth table of each check."""

from typing import Any

import msgspec
import pytest

from ebbgate_bus.contracts import facts as bus_facts
from ebbgate_programmer.core import diagnosis, lowering, marks, places, uplinks
from ebbgate_programmer.core.kernelstate import KernelState, Rule, Way
from ebbgate_programmer.core.ruleset import Chain
from ebbgate_programmer.core.ruleset import Rule as FilterRule
from ebbgate_programmer.core.symptoms import Answer, Bus, Conntrack, Facts, Finding, Link, Severity

OK, WARNING, PROBLEM = Severity.OK, Severity.WARNING, Severity.PROBLEM
EGRESS_IP = "192.0.2.100"
ENVIRONMENT = lowering.Environment(
    node="n", object_hash="00ab", ethernet={"eth0": uplinks.Uplink(is_default=True)}
)
HELD = msgspec.structs.replace(
    lowering.static(ENVIRONMENT, ["eth1"]), egress={77: EGRESS_IP}, covered=frozenset(["fd00::1"])
)
INTERFACES = (
    bus_facts.Interface(name="eth0", index=2, addresses=("192.0.2.1/24",), default_route=("ipv4", "ipv6")),
    bus_facts.Interface(name="eth1", index=3, addresses=(f"{EGRESS_IP}/24",)),
)
SETTINGS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/ebbgate0/rp_filter": "2",
    "net/ipv4/conf/eth1/rp_filter": "2",
    "net/ipv4/conf/eth0/rp_filter": "0",
}
HEALTHY = Facts(
    release="6.18.1",
    version=(6, 18),
    conntrack=Conntrack(count=1, limit=100),
    settings=SETTINGS,
    links=(Link("eth0", 1500), Link("eth1", 1500), Link(places.DEVICE, 1450, places.PORT)),
    interfaces=INTERFACES,
    environment=ENVIRONMENT,
    held=HELD,
    rules=tuple(HELD.rules),
    answers={"192.0.2.2": Answer.SILENT},
)


def found(facts: Facts) -> list[Finding]:
    return [each for each in diagnosis.diagnose(facts) if each.severity is not OK]


def one(**changes: Any) -> Finding:
    """The only finding that the healthy node has with `changes`."""
    [only] = found(msgspec.structs.replace(HEALTHY, **changes))
    assert only.seen
    return only


def judged(**changes: Any) -> list[tuple[str, Severity]]:
    return [(each.check, each.severity) for each in found(msgspec.structs.replace(HEALTHY, **changes))]


def test_a_healthy_node_has_a_good_word_for_each_check() -> None:
    said = diagnosis.diagnose(HEALTHY)
    assert [each.check for each in said] == [name for name, *_ in diagnosis.CHECKS]
    assert {each.severity for each in said} == {OK}
    assert not diagnosis.has_problem(said)


def test_a_node_of_which_nothing_is_known_has_no_finding_that_would_need_to_be() -> None:
    assert [(each.check, each.severity) for each in found(Facts())] == [
        ("kernel", PROBLEM),
        ("installed", WARNING),
    ]


def test_on_paper() -> None:
    said = [Finding("a", OK, "fine"), Finding("b", PROBLEM, "broken", "mend it")]
    assert diagnosis.text(said) == (
        "ok        a            fine\nPROBLEM   b            broken\n                       → mend it"
    )
    assert diagnosis.has_problem(said)
    assert msgspec.json.decode(diagnosis.as_json(said), type=list[Finding]) == said


@pytest.mark.parametrize(
    ("version", "severity"), [((6, 6), None), ((5, 10), None), ((5, 9), PROBLEM), ((), PROBLEM)]
)
def test_kernel(version: tuple[int, ...], severity: Severity | None) -> None:
    assert judged(version=version) == ([("kernel", severity)] if severity else [])


def test_kernel_options_count_where_they_are_known() -> None:
    all_ = dict.fromkeys((*diagnosis.NEEDED, *diagnosis.BY_TCX), "y")
    assert judged(options=all_) == []
    assert "CONFIG_NET_CLS_BPF" in one(options=all_, version=(6, 1)).seen
    assert "CONFIG_VXLAN" in one(options={name: "m" for name in all_ if name != "VXLAN"}).seen


def test_what_is_missing_and_what_was_not_read() -> None:
    assert one(lacks=("kernel 5.10 or newer", "capability CAP_BPF")).check == "needs"
    assert (one(unread=("nftables (no)",)).check, one(unread=("x",)).severity) == ("reading", WARNING)


@pytest.mark.parametrize(
    ("table", "severity"),
    [
        (Conntrack(74, 100), None),
        (Conntrack(75, 100), WARNING),
        (Conntrack(95, 100), PROBLEM),
        (Conntrack(0, 0), None),
        (Conntrack(0, 100, refused=1), WARNING),
        (Conntrack(0, 100, dropped=1), WARNING),
        (None, None),
    ],
)
def test_conntrack(table: Conntrack | None, severity: Severity | None) -> None:
    assert judged(conntrack=table) == ([("conntrack", severity)] if severity else [])


@pytest.mark.parametrize(
    ("everywhere", "device", "value", "severity"),
    [
        ("0", "ebbgate0", "1", PROBLEM),
        ("1", "ebbgate0", "2", None),
        ("0", "eth1", "1", PROBLEM),
        ("0", "eth0", "1", WARNING),
        ("2", "eth0", "1", None),
        ("0", "eth0", "", None),
    ],
)
def test_rp_filter(everywhere: str, device: str, value: str, severity: Severity | None) -> None:
    changed = {"net/ipv4/conf/all/rp_filter": everywhere, f"net/ipv4/conf/{device}/rp_filter": value}
    settings = {**SETTINGS, "net/ipv4/conf/eth0/rp_filter": "2", **changed}
    assert judged(settings=settings) == ([("rp_filter", severity)] if severity else [])


def test_a_setting_is_written_as_sysctl_takes_it() -> None:
    assert diagnosis.dotted("net/ipv4/conf/eth0.5/rp_filter") == "net.ipv4.conf.eth0/5.rp_filter"


@pytest.mark.parametrize(
    ("path", "used", "severity"),
    [
        ("net/ipv4/ip_forward", True, PROBLEM),
        ("net/ipv4/ip_forward", False, WARNING),
        ("net/ipv6/conf/all/forwarding", True, PROBLEM),
        ("net/ipv6/conf/all/forwarding", False, WARNING),
        ("net/ipv4/conf/eth1/forwarding", True, PROBLEM),
    ],
)
def test_forwarding(path: str, used: bool, severity: Severity) -> None:
    held = HELD if used else msgspec.structs.replace(HELD, egress={}, covered=frozenset())
    assert judged(settings={**SETTINGS, path: "0"}, held=held) == [("forwarding", severity)]


@pytest.mark.parametrize(
    ("device", "eth1", "underlay", "severity"),
    [
        (1450, 1500, 1500, None),
        (1451, 1500, 1500, PROBLEM),
        (1449, 1500, 1500, WARNING),
        (1250, 1500, 1300, PROBLEM),
        (1450, 9000, 1500, WARNING),
    ],
)
def test_mtu(device: int, eth1: int, underlay: int, severity: Severity | None) -> None:
    links = (Link("eth0", 1500), Link("eth1", eth1), Link(places.DEVICE, device))
    environment = msgspec.structs.replace(ENVIRONMENT, underlay_mtu=underlay)
    assert judged(links=links, environment=environment) == ([("mtu", severity)] if severity else [])


def test_a_family_without_default_route() -> None:
    without = (msgspec.structs.replace(INTERFACES[0], default_route=("ipv4",)), INTERFACES[1])
    assert "no default route for ipv6" in one(interfaces=without).seen


@pytest.mark.parametrize(
    ("value", "said"), [("1", "pass through"), ("0", "don't pass"), ("", "no br_netfilter")]
)
def test_bridges_are_told_of(value: str, said: str) -> None:
    settings = {**SETTINGS, "net/bridge/bridge-nf-call-iptables": value}
    told = diagnosis.diagnose(msgspec.structs.replace(HEALTHY, settings=settings))
    assert said in next(each.seen for each in told if each.check == "bridge")


@pytest.mark.parametrize(
    ("answer", "words"), [(Answer.CLOSED, "nothing listens"), (Answer.UNREACHABLE, "can't be")]
)
def test_peers(answer: Answer, words: str) -> None:
    assert words in one(answers={"192.0.2.2": answer, "192.0.2.3": Answer.SILENT}).seen


@pytest.mark.parametrize(
    ("bus", "words"),
    [
        (Bus("nats://a"), "NATS doesn't answer at nats://a"),
        (Bus("nats://a", is_there=True), "its stream PLAN can't be read"),
    ],
)
def test_bus(bus: Bus, words: str) -> None:
    assert words in one(bus=bus).seen
    assert judged(bus=Bus("nats://a", is_there=True, has_plan=True)) == []


# --- what is ours

UPLINK = Rule("ipv4", places.PRIORITY_UPLINK, marks.mark_of(5), marks.MASK, places.TABLE_UPLINK + 5)
UPLINK_WAY = Way("ipv4", places.TABLE_UPLINK + 5, places.METRIC_FIRST, "eth1")
BY_UPLINK = msgspec.structs.replace(
    HELD, uplinks={77: 5, 99: 6}, rules=HELD.rules | {UPLINK}, ways=HELD.ways | {UPLINK_WAY}
)
DEVICE = HELD.device
assert DEVICE is not None
A_RULE, A_WAY = min(HELD.rules), min(HELD.ways)
BLACKHOLE = next(way for way in sorted(HELD.ways) if not way.device)


def without(**changes: Any) -> KernelState:
    return msgspec.structs.replace(HELD, **changes)


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (without(device=None), "the device ebbgate0 is missing"),
        (
            without(device=msgspec.structs.replace(DEVICE, form="bridge")),
            "ebbgate0 is bridge, and should be vxlan",
        ),
        (without(device=msgspec.structs.replace(DEVICE, up=False)), "ebbgate0 is down"),
        (without(device=msgspec.structs.replace(DEVICE, address="")), "ebbgate0 has no address"),
        (without(programs=""), "the BPF programs aren't attached to ebbgate0"),
        (without(programs="", loaded=""), "the BPF programs aren't loaded"),
        (without(guarded=frozenset(["eth1"])), "no BPF guard at eth0"),
        (without(direct=-1), "the direct way leads to a device that is gone"),
        (without(rules=HELD.rules - {A_RULE}), f"rule {A_RULE.priority} (fwmark"),
        (without(ways=HELD.ways - {A_WAY}), f"the {A_WAY.family} route by ebbgate0 of table {A_WAY.table}"),
        (without(ways=HELD.ways - {BLACKHOLE}), "blackhole route of table"),
        (without(chains=HELD.chains[1:]), "1 chains, rules or sets are missing or changed in ip ebbgate"),
        (msgspec.structs.replace(BY_UPLINK, rules=HELD.rules), "rule 1923 (fwmark 0x5/0x1f7f lookup 19029)"),
        (msgspec.structs.replace(BY_UPLINK, ways=HELD.ways), "table 19029 of an uplink has no ipv4 route"),
    ],
)
def test_what_of_ours_is_missing(held: KernelState, words: str) -> None:
    told = one(held=held)
    assert (told.check, told.severity) == ("installed", PROBLEM)
    assert words in told.seen


def test_what_of_ours_may_be_otherwise() -> None:
    assert judged(held=BY_UPLINK) == []
    other = msgspec.structs.replace(ENVIRONMENT, object_hash="ffff")
    assert one(environment=other).seen.startswith("the BPF programs are those of another version (00ab")
    assert judged(environment=msgspec.structs.replace(ENVIRONMENT, object_hash="")) == []
    assert one(held=without(others=frozenset(["v1"]))).severity is WARNING
    assert one(held=KernelState()).seen == "nothing of Ebbgate's is in this kernel"
    assert one(held=None).seen == "what of Ebbgate's is here couldn't be read"


# --- what is others'


@pytest.mark.parametrize(
    ("rule", "severity"),
    [
        (Rule("ipv4", 1922, 0, 0, 254), PROBLEM),
        (Rule("ipv4", 1921, 1, 1, places.TABLE_TUNNEL), PROBLEM),
        (Rule("ipv4", 9, 0x200, 0xF00, 2004), PROBLEM),
        (Rule("ipv4", 32000, 0x200, 0xF00, 2004), WARNING),
        (Rule("ipv4", 512, 0, 0, 254), WARNING),
        (Rule("ipv4", 1024, 0x80, 0x80, 254), None),
        (Rule("ipv4", 0, 0, 0, 255), None),
        (Rule("ipv4", 1000, 0, 0, 0), None),
        (Rule("ipv4", 32766, 0, 0, 254), None),
    ],
)
def test_rules_of_others(rule: Rule, severity: Severity | None) -> None:
    assert judged(rules=(*HELD.rules, UPLINK, rule)) == ([("ip rules", severity)] if severity else [])


def test_vxlan_of_others() -> None:
    links = (*HEALTHY.links, Link("flannel.1", 1450, 8472))
    assert judged(links=links) == []
    assert one(links=(*links, Link("other", 1450, places.PORT))).check == "vxlan"


@pytest.mark.parametrize(
    ("chain", "severity"),
    [
        (Chain(family="ip", table="t", name="c", kind="nat", hook="postrouting", priority=-199), PROBLEM),
        (Chain(family="ip", table="t", name="c", kind="nat", hook="postrouting", priority=-198), None),
        (Chain(family="ip", table="t", name="c", kind="nat", hook="prerouting", priority=-300), None),
        (Chain(family="ip", table="t", name="c", kind="filter", hook="postrouting", priority=-300), None),
        (Chain(family="ip", table="ebbgate", name="c", kind="nat", hook="postrouting", priority=-199), None),
    ],
)
def test_nat_of_others(chain: Chain, severity: Severity | None) -> None:
    assert judged(chains=(chain,)) == ([("nat", severity)] if severity else [])


def filter_chain(*rules: FilterRule, **changes: Any) -> Chain:
    form = {
        "family": "ip",
        "table": "filter",
        "name": "FORWARD",
        "hook": "forward",
        "kind": "filter",
        "policy": "drop",
    }
    return Chain(**{**form, **changes}, rules=rules)


def filter_rule(**changes: Any) -> FilterRule:
    return FilterRule(text="t", **changes)


@pytest.mark.parametrize(
    ("rule", "severity"),
    [
        (filter_rule(writes=0x10), PROBLEM),
        (filter_rule(writes=0x4000), None),
        (filter_rule(writes=0x10, reads=0x10), PROBLEM),
        (filter_rule(reads=0x10), WARNING),
        (filter_rule(reads=0x80), None),
    ],
)
def test_marks_of_others(rule: FilterRule, severity: Severity | None) -> None:
    chain = Chain(family="ip", table="t", name="c", rules=(rule,))
    assert judged(chains=(chain,)) == ([("marks", severity)] if severity else [])
    assert judged(chains=(msgspec.structs.replace(chain, table="ebbgate_guard"),)) == []


def test_of_many_rules_some_are_named_and_the_others_counted() -> None:
    chain = Chain(family="ip", table="t", name="c", rules=(filter_rule(writes=1),) * 7)
    told = found(msgspec.structs.replace(HEALTHY, chains=(chain,)))
    assert (len(told), told[-1].seen) == (6, "2 more rules touch our bits")


def test_a_rule_that_nft_and_iptables_tell_of_is_named_once() -> None:
    seen_by_nft = Chain(family="ip", table="mangle", name="c", rules=(filter_rule(reads=1),))
    saved = msgspec.structs.replace(seen_by_nft, tool="iptables", rules=(filter_rule(writes=1),))
    old = msgspec.structs.replace(seen_by_nft, tool="iptables-legacy")
    assert judged(chains=(seen_by_nft, saved)) == [("marks", PROBLEM)]
    assert judged(chains=(seen_by_nft, old)) == [("marks", WARNING)] * 2


def accept(**changes: Any) -> FilterRule:
    return filter_rule(verdict="accept", **changes)


IN, OUT = accept(incoming=("ebbgate0",)), accept(outgoing=("ebb*",))
DROP = filter_rule(verdict="drop")


@pytest.mark.parametrize(
    ("chain", "severity"),
    [
        (filter_chain(), PROBLEM),
        (filter_chain(policy="accept"), None),
        (filter_chain(DROP, policy="accept"), PROBLEM),
        (filter_chain(msgspec.structs.replace(DROP, depends=True), policy="accept"), None),
        (filter_chain(msgspec.structs.replace(DROP, incoming=("eth0",)), policy="accept"), None),
        (filter_chain(accept(), policy="drop"), None),
        (filter_chain(IN, OUT), None),
        (filter_chain(IN), PROBLEM),
        (filter_chain(accept(never=True)), PROBLEM),
        (filter_chain(accept(incoming=("cni0",)), accept(outgoing=("cni0",))), WARNING),
        (filter_chain(accept(depends=True)), WARNING),
        (filter_chain(hook="input"), None),
        (filter_chain(kind="nat"), None),
        (filter_chain(table="ebbgate"), None),
    ],
)
def test_firewalls_of_others(chain: Chain, severity: Severity | None) -> None:
    assert judged(chains=(chain,)) == ([("forward", severity)] if severity else [])


def test_chains_that_a_firewall_leads_to_are_followed() -> None:
    def leading(rule: FilterRule, target: FilterRule) -> list[tuple[str, Severity]]:
        return judged(chains=(filter_chain(rule), filter_chain(target, name="g", hook="", policy="accept")))

    assert leading(filter_rule(target="g"), accept()) == []
    assert leading(filter_rule(target="g", depends=True), accept()) == [("forward", WARNING)]
    assert leading(filter_rule(target="g"), accept(never=True)) == [("forward", PROBLEM)]
    assert leading(filter_rule(target="absent"), accept()) == [("forward", PROBLEM)]
    assert leading(filter_rule(target="g"), filter_rule(target="g")) == [("forward", PROBLEM)]


@pytest.mark.parametrize(
    ("chain", "advice"),
    [
        (filter_chain(table="firewalld"), "firewall-cmd --permanent --zone=trusted --add-interface=ebbgate0"),
        (filter_chain(filter_rule(target="ufw-before-forward")), "ufw route allow in on ebbgate0"),
        (filter_chain(), "iptables -I FORWARD -i ebbgate0 -j ACCEPT"),
        (filter_chain(family="ip6"), "ip6tables -I FORWARD -i ebbgate0"),
        (filter_chain(tool="iptables-legacy"), "iptables-legacy -I FORWARD"),
        (filter_chain(name="f"), "nft insert rule ip filter f iifname ebbgate0 accept"),
    ],
)
def test_the_rule_to_add_is_named(chain: Chain, advice: str) -> None:
    assert advice in one(chains=(chain,)).advice
