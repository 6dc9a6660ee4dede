"""`explain` agrees with a look-up in the rows of `resolve`, for any packet of any small world."""

from collections.abc import Iterable

import hypothesis
from hypothesis import strategies as st

from ebbgate_bus.contracts import facts, reports, subjects
from ebbgate_resolver.core import inventory, resolve
from ebbgate_resolver.core.people.explanation import Outcome
from ebbgate_resolver.core.plan import held
from tests.properties import examples, witnesses
from tests.properties import resolver_worlds as worlds
from tests.unit import resolver_objects as objects

SETTING = ("20.2.0.0/16", "2001:db8:2::/48")


def plan_after(plan: held.Held, known: inventory.Inventory) -> held.Held:
    """PLAN once a resolution of `known` is stored, nothing released."""
    resolution = resolve.resolve(known, resolve.Previous(plan), SETTING)
    after = held.Held()
    for subject, payload in (resolution.retained | resolution.wanted).items():
        after.put(subject, payload)
    return after


def report(known: inventory.Inventory, plan: held.Held, answering: Iterable[str]) -> None:
    for node in answering:
        slots = {str(slot): row.egress_ip for (name, slot), row in plan.egress.items() if name == node}
        known.fold(subjects.status(node), reports.Applied(node=node, slots=slots))


@hypothesis.given(worlds.histories(), st.sampled_from([worlds.NODES, worlds.NODES, ["n1"], []]))
@hypothesis.settings(max_examples=examples.count(50))
def test_explain_and_the_rows_agree_on_every_packet(
    history: list[list[worlds.Change]], answering: list[str]
) -> None:
    known, plan = objects.inventory_of(), held.Held()
    for step in history:
        for message in step:
            if isinstance(message, tuple):
                known.fold(message[0], facts.GONE)
            else:
                known.fold(objects.subject_of(message), message)
        plan = plan_after(plan, known)
        witnesses.check(known, plan, worlds.DESTINATIONS, SETTING)
        report(known, plan, answering)
        plan = plan_after(plan, known)
        witnesses.check(known, plan, worlds.DESTINATIONS, SETTING)


def test_every_outcome_is_among_those_that_are_compared() -> None:
    pods = [
        objects.pod(name, "n1", f"10.1.0.{i}", f"fd00::{i}", app=name) for i, name in enumerate("abcdefgh")
    ]
    others = [
        facts.Node(name=f"n{i}", labels={"zone": "b"}, internal_ips=(f"10.0.0.{i}",)) for i in range(2, 7)
    ]
    several = [
        {"nodeSelector": {"matchLabels": {"gw": "yes"}}},
        {"nodeSelector": {}, "egressIP": "192.0.2.9"},
        {"nodeSelector": {"matchLabels": {"zone": "b"}}, "interface": "eth7"},
    ]
    policies = [
        objects.policy("x", "20.0.0.0/8", excludedCIDRs=["20.1.0.0/16"], egressGateways=several),
        objects.policy("y", "99.0.0.0/8", egressGateway={"nodeSelector": {"matchLabels": {"no": "node"}}}),
    ]
    network = objects.network("n5", "192.0.2.9/24")
    known = objects.inventory_of(worlds.GATEWAY, worlds.NETWORK, *others, network, *pods, *policies)
    plan = plan_after(held.Held(), known)
    report(known, plan, [*worlds.NODES, "n5"])
    assert witnesses.check(known, plan_after(plan, known), worlds.DESTINATIONS, SETTING) == set(Outcome)
