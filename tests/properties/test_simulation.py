"""simulate equals a plain one, which resolves both worlds in full and compares all pods and destinations."""

from collections.abc import Iterator, Mapping

import hypothesis
from hypothesis import strategies as st

from ebbgate_bus.contracts import reports, rows, subjects
from ebbgate_bus.contracts.message import Message
from ebbgate_resolver.core import addresses, inventory, resolve, simulation
from ebbgate_resolver.core.people import verdicts, ways
from ebbgate_resolver.core.plan import held
from tests.properties import examples
from tests.properties import resolver_histories as histories
from tests.properties.resolver_histories import Choose
from tests.unit import resolver_objects as objects

Facts = dict[str, Message]


class Settled:
    """A world in which every node answers and everything is resolved anew until nothing changes."""

    def __init__(self, made: Facts, plan: held.Held) -> None:
        known = inventory.Inventory()
        for each in (*objects.SYNCED, *made.values()):
            known.fold(objects.subject_of(each), each)
        self.plan, before = plan, None
        while before != self.plan.rows:
            before = self.plan.rows
            self._answer(known)
            resolution = resolve.resolve(known, resolve.Previous(self.plan))
            self.plan = held_of(resolution.wanted | resolution.retained)
        self.table = ways.table(resolution.wanted)
        programmed = {name: set(known.nodes) for name in known.policies}
        buckets = verdicts.count_buckets(resolution.matched)
        progress = verdicts.Progress(known, resolution, programmed, buckets)
        told = {name: verdicts.verdict(name, progress) for name in known.policies}
        self.standings = {name: simulation.standing_text(verdict) for name, verdict in told.items()}

    def _answer(self, known: inventory.Inventory) -> None:
        for node in known.nodes:
            slots = {str(slot): row.egress_ip for (on, slot), row in self.plan.egress.items() if on == node}
            known.fold(subjects.status(node), reports.Applied(node=node, slots=slots))


def held_of(payloads: Mapping[str, bytes]) -> held.Held:
    plan = held.Held()
    for subject, payload in payloads.items():
        plan.put(subject, payload)
    return plan


def plainly(before: Facts, after: Facts, plan: held.Held) -> simulation.Simulation:
    old = Settled(before, plan)
    new = Settled(after, old.plan)
    named = old.standings.keys() | new.standings.keys()
    standings = (
        simulation.Standing(name, old.standings.get(name, "absent"), new.standings.get(name, "absent"))
        for name in sorted(named)
    )
    come, gone = (
        tuple(f"{cidr} ({one[cidr]})" for cidr in sorted(one.keys() - other.keys()))
        for one, other in (
            (new.table.cluster, old.table.cluster),
            (old.table.cluster, new.table.cluster),
        )
    )
    changes = tuple(sorted(differences(old.table, new.table)))
    return simulation.Simulation(
        changes, tuple(each for each in standings if each.before != each.after), come, gone
    )


def differences(old: ways.Table, new: ways.Table) -> Iterator[simulation.Change]:
    for key in old.endpoints.keys() | new.endpoints.keys():
        both = [(table, table.endpoints.get(key)) for table in (old, new)]
        cidrs = {cidr for table, endpoint in both for cidr in destinations(table, endpoint, key[1])}
        for cidr in cidrs:
            before, after = (table.way(endpoint, cidr) for table, endpoint in both)
            if before.seen != after.seen:
                yield simulation.Change(key[0], key[1], cidr, before, after)


def destinations(table: ways.Table, endpoint: rows.Endpoint | None, source: str) -> list[str]:
    routes = table.routes[endpoint.set] if endpoint else {}
    return [cidr for cidr in routes if addresses.family_of_text(cidr) == addresses.family_of_text(source)]


def world(choose: Choose) -> Facts:
    made = [
        *histories.ground(),
        *(histories.namespace(choose, name) for name in histories.NAMESPACES),
        *(histories.pod(choose, key) for key in histories.PODS),
        *(histories.policy(choose, name, UIDS) for name in histories.POLICIES),
    ]
    return {objects.subject_of(each): each for each in made}


UIDS = ("uid-x", "uid-y")


def changed(choose: Choose, before: Facts) -> Facts:
    after = dict(before)
    for _ in range(choose([1, 1, 2, 4])):
        known = choose(list(after.values()))
        other = choose([histories.altered(choose, known, UIDS), histories.anything(choose, UIDS)])
        after[objects.subject_of(other)] = other
        if choose(range(3)) == 0:
            del after[choose(list(after))]
    return after


@hypothesis.given(st.integers(0, 10**9))
@hypothesis.settings(max_examples=examples.count(60), phases=[hypothesis.Phase.generate])
def test_a_simulation_is_as_if_everything_were_compared(seed: int) -> None:
    choose = histories.dice(seed)
    first = world(choose)
    second = changed(choose, first)
    plan = choose([held.Held(), Settled(first, held.Held()).plan, Settled(second, held.Held()).plan])
    before_rows = dict(plan.rows)
    told = simulation.simulate(first, second, plan)
    assert told == plainly(first, second, plan)
    assert plan.rows == before_rows
    assert simulation.simulate(second, dict(second), plan).is_empty


def test_changes_of_every_kind_are_among_those_that_are_compared() -> None:
    seen: set[str] = set()
    for seed in range(200):
        choose = histories.dice(seed)
        first = world(choose)
        told = simulation.simulate(first, changed(choose, first), held.Held())
        seen |= {f"{each.before.outcome} → {each.after.outcome}" for each in told.changes}
        seen |= {"policies" for _ in told.policies} | {
            "cluster" for _ in (*told.never, *told.no_longer_never)
        }
    assert {
        "policies",
        "cluster",
        "steered → steered",
        "steered → not matched",
        "not matched → steered",
    } <= seen
    assert {"steered → dropped", "dropped → steered", "steered → excluded"} <= seen
