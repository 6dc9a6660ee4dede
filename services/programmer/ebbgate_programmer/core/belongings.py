"""Of diagnosis: what of ours is missing in a node's kernel, though a programmer once put it there."""

from collections.abc import Iterator

import msgspec

from ebbgate_programmer.core import lowering, marks, places, strangers
from ebbgate_programmer.core.kernelstate import KernelState, Rule, Way
from ebbgate_programmer.core.symptoms import Facts, Finding, Severity

_CHECK = "installed"
_PUT_BACK = "a running programmer puts it back: look at its log, and who takes it away"
_FOREIGN = (
    f"{_PUT_BACK}; systemd-networkd does, unless networkd.conf has ManageForeignRoutingPolicyRules=no and "
    "ManageForeignRoutes=no"
)


def look(facts: Facts) -> Iterator[Finding]:
    held = facts.held
    if held is None or facts.environment is None:
        yield Finding(_CHECK, Severity.WARNING, "what of Ebbgate's is here couldn't be read")
        return
    if held.device is None and not (held.loaded or held.chains or held.rules):
        seen = "nothing of Ebbgate's is in this kernel"
        advice = (
            "start the programmer; if it runs, ask with its --node and --pin-path, in its network namespace"
        )
        yield Finding(_CHECK, Severity.WARNING, seen, advice)
        return
    wanted = lowering.static(facts.environment, facts.egress_interfaces)
    yield from _device(wanted, held)
    yield from _programs(wanted, held)
    yield from _rules(wanted, held)
    yield from _ways(wanted, held)
    yield from _tables(wanted, held)


def _problem(seen: str, advice: str = _PUT_BACK) -> Finding:
    return Finding(_CHECK, Severity.PROBLEM, seen, advice)


def _device(wanted: KernelState, held: KernelState) -> Iterator[Finding]:
    """Its address follows from the node's name, which `doctor` may not know; its MTU is looked at apart."""
    if held.device is None or wanted.device is None:
        yield _problem(f"the device {places.DEVICE} is missing: what is to go by the tunnel is dropped")
    elif held.device.form != wanted.device.form:
        yield _problem(f"{places.DEVICE} is {held.device.form}, and should be {wanted.device.form}")
    elif not held.device.up:
        yield _problem(f"{places.DEVICE} is down", f"{_PUT_BACK}; ip link set {places.DEVICE} up")
    elif not held.device.address:
        yield _problem(f"{places.DEVICE} has no address: nothing that comes by it is accepted")


def _programs(wanted: KernelState, held: KernelState) -> Iterator[Finding]:
    """loaded   attached   of this version
    no                              problem
    yes      no                     problem
    yes      yes        no          warning
    """
    if not held.loaded:
        yield _problem("the BPF programs aren't loaded, or not all of them")
    elif not held.programs:
        yield _problem(f"the BPF programs aren't attached to {places.DEVICE}, or not all of them")
    elif wanted.programs and held.programs != wanted.programs:
        seen = f"the BPF programs are those of another version ({held.programs}, here is {wanted.programs})"
        yield Finding(
            _CHECK, Severity.WARNING, seen, "run doctor from the image that the node's programmer has"
        )
    if held.others:
        seen = f"maps of other versions are pinned too: {', '.join(sorted(held.others))}"
        advice = "a running programmer hands over from them, and takes them out once its own are in place"
        yield Finding(_CHECK, Severity.WARNING, seen, advice)
    for name in sorted(wanted.guarded - held.guarded):
        yield _problem(f"no BPF guard at {name}: without nftables' guard traffic could leak there")
    if held.direct < 0:
        yield _problem("the direct way leads to a device that is gone: what comes by the tunnel is dropped")


def _rules(wanted: KernelState, held: KernelState) -> Iterator[Finding]:
    for rule in sorted((wanted.rules | _of_uplinks(held)) - held.rules):
        yield _problem(f"{strangers.named(rule)} is missing", _FOREIGN)


def _of_uplinks(held: KernelState) -> set[Rule]:
    """Of each class that an egress IP leaves by."""
    return {
        Rule(
            "ipv6" if ":" in held.egress[slot] else "ipv4",
            places.PRIORITY_UPLINK,
            marks.mark_of(number),
            marks.MASK,
            places.TABLE_UPLINK + number,
        )
        for slot, number in held.uplinks.items()
        if slot in held.egress
    }


def _ways(wanted: KernelState, held: KernelState) -> Iterator[Finding]:
    there = {_unversioned(way) for way in held.ways}
    for way in sorted(wanted.ways):
        if _unversioned(way) not in there:
            what = f"route by {way.device}" if way.device else "blackhole route"
            yield _problem(f"the {way.family} {what} of table {way.table} is missing", _FOREIGN)
    for rule in sorted(_of_uplinks(held)):
        if not any(way.device for way in held.ways if (way.family, way.table) == (rule.family, rule.table)):
            yield _problem(f"table {rule.table} of an uplink has no {rule.family} route", _FOREIGN)


def _unversioned(way: Way) -> Way:
    """The program's name is its version's, of which `_programs` tells."""
    return msgspec.structs.replace(way, program=places.PROGRAM_PREFIX if way.program else "")


def _tables(wanted: KernelState, held: KernelState) -> Iterator[Finding]:
    missing = set(wanted.chains) - set(held.chains)
    if missing:
        named = sorted({" ".join(line.split()[:2]) for line in missing})
        yield _problem(
            f"nftables: {len(missing)} chains, rules or sets are missing or changed in {', '.join(named)}"
        )
