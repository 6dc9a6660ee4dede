"""Corners of the resolver's core: what is ignored, what is remembered, what is as if it weren't there."""

import msgspec
import pytest

from ebbgate_bus.contracts import codec, facts, rows, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_resolver.core import addresses, answers, inventory
from ebbgate_resolver.core.incremental import judging
from ebbgate_resolver.core.plan import held
from ebbgate_resolver.core.rules import gateways, policies, versions
from tests.properties import engine_twins
from tests.unit import resolver_objects as objects

GW = objects.node("gw", "10.0.0.1", gw="yes")
NET = objects.network("gw", "10.0.0.1/24")
POD = objects.pod("a", "gw", "10.1.0.1")
POLICY = objects.policy("p", "0.0.0.0/0")


def test_traffic_counters_and_foreign_subjects_are_passed_by() -> None:
    resolver = objects.resolver_of(GW)
    objects.step(resolver)
    resolver.fold([Stored(f"{subjects.ROOT}.stats.gw", b"{", 1)])
    assert resolver.step(2.0).batches == ()
    known = inventory.Inventory()
    known.fold(subjects.WRITER, rows.Writer(epoch=1, revision=1))
    assert vars(known) == vars(inventory.Inventory())
    plan = held.Held()
    plan.put(objects.subject_of(GW), b"{}")
    assert vars(plan) == vars(held.Held())


def test_a_second_interface_serves_if_the_first_has_no_address_of_the_family() -> None:
    both = tuple(
        facts.Interface(name=f"eth{i}", index=i, addresses=addresses_, default_route=("ipv4",))
        for i, addresses_ in enumerate([("2001:db8::1/64",), ("192.0.2.1/24",)])
    )
    choice = policies.GatewayChoice(policies.selectors.Selector())
    found = gateways.egress_addresses(choice, facts.NodeNetwork(node="gw", interfaces=both), ("ipv4",))
    assert found == {"ipv4": gateways.EgressAddress("192.0.2.1", "eth1")}


def test_a_slot_freed_before_plan_was_read_again_goes_back_to_its_egress_ip() -> None:
    resolver = objects.resolver_of(GW, NET, POLICY)
    objects.step(resolver)
    (place,) = objects.egress_of(resolver)
    resolver.fold([objects.gone(POLICY)])
    objects.step(resolver, 2.0)
    resolver.fold([objects.stored(objects.applied(resolver, "gw"))])
    objects.step(resolver, 3.0)
    assert objects.egress_of(resolver) == {}
    plan = [Stored(subject, payload, 1) for subject, payload in resolver.live_rows.items()]
    resolver.replace_plan([*plan, Stored(subjects.egress(*place), b"", 2)], 4.0)
    resolver.fold([objects.stored(POLICY)])
    objects.step(resolver, 5.0)
    assert list(objects.egress_of(resolver)) == [place]


def test_a_last_good_version_that_is_good_no_more_is_not_in_force() -> None:
    known = objects.inventory_of(objects.policy("p", "nonsense"))
    kept = rows.PolicyInForce(uid="uid-p", spec=msgspec.Raw(b"{}"))
    judged = versions.judge(known, {"p": kept})
    assert (judged.in_force, judged.kept) == ({}, {})


def test_another_uid_is_another_policy() -> None:
    known = objects.inventory_of(objects.policy("p", "nonsense"))
    good = POLICY.spec
    for uid, in_force in (("uid-p", ["p"]), ("uid-of-its-forerunner", [])):
        judged = versions.judge(known, {"p": rows.PolicyInForce(uid=uid, spec=good)})
        assert list(judged.in_force) == in_force
        assert list(judged.rejected) == ["p"]


def _held(uid: str) -> rows.PolicyInForce:
    return rows.PolicyInForce(uid=uid, spec=POLICY.spec)


def test_a_uid_is_its_policys_that_plan_holds_else_the_first_good_ones() -> None:
    good, bad = (
        [msgspec.structs.replace(objects.policy(name, cidr), uid="u") for name in "ab"]
        for cidr in ("1.0.0.0/8", "nonsense")
    )
    for facts_, plan, in_force in (
        (good, {}, "a"),
        (good, {"b": _held("u")}, "b"),
        (good, {"b": _held("other")}, "a"),
        (good, {"a": _held("u"), "b": _held("u")}, "a"),
        ([bad[0], good[1]], {}, "b"),
        ([bad[0], good[1]], {"a": _held("u")}, "a"),
        ([good[0], bad[1]], {"b": _held("u")}, "b"),
        (good[:1], {"gone": _held("u")}, ""),  # its rows go first
    ):
        judged = versions.judge(objects.inventory_of(*facts_), plan)
        assert "".join(judged.in_force) == "".join(judged.kept) == in_force


def test_a_policy_is_judged_anew_among_all_that_share_either_of_its_uids() -> None:
    named = {"a": "old", "b": "u", "c": "u"}
    facts_ = [msgspec.structs.replace(POLICY, name=name, uid=uid) for name, uid in named.items()]
    known, plan = objects.inventory_of(*facts_), held.Held()
    for name, uid in (("b", "old"), ("c", "u")):
        plan.put(subjects.policy_in_force(name), codec.encode(_held(uid)))
    followed = judging.Judging(known)
    followed.judge(set(named), plan, everything=True)
    known.fold(objects.subject_of(facts_[0]), msgspec.structs.replace(facts_[0], uid="new"))
    followed.judge({"a"}, plan, everything=False)
    assert followed.versions == versions.judge(known, plan.policies)
    assert sorted(followed.versions.in_force) == ["a", "c"]


def test_a_copied_uid_is_said_by_field_with_the_name_of_the_one_that_has_it() -> None:
    copy = msgspec.structs.replace(POLICY, name="a", created="2020-01-01T00:00:00Z")
    resolver = engine_twins.Twins()
    resolver.epoch = 1
    resolver.replace_facts([objects.stored(each) for each in (*objects.SYNCED, GW, NET, POD, POLICY)])
    resolver.replace_plan([], 0.0)
    resolver.stored(resolver.step(1.0))
    before = resolver.live_rows
    resolver.fold([objects.stored(copy)])
    made = resolver.step(2.0)
    resolver.stored(made)
    reason = "uid-p is the uid of policy p, which has it already; leave it out of a copied manifest"
    assert answers.note("policy.rejected", policy="a", field="metadata.uid", reason=reason) in made.notes
    assert resolver.live_rows == before
    resolver.fold([objects.gone(POLICY)])
    for now_s in (3.0, 4.0):
        resolver.stored(resolver.step(now_s))
    assert b'"policy":"a"' in resolver.live_rows[subjects.group("uid-p")]


def test_a_policy_whose_fact_cannot_be_read_stays_in_force() -> None:
    resolver = objects.resolver_of(GW, NET, POD, POLICY)
    objects.step(resolver)
    before = resolver.live_rows
    plan = [Stored(subject, payload, 1) for subject, payload in before.items()]
    resolver.replace_facts([objects.stored(each) for each in (*objects.SYNCED, GW, NET, POD)])
    resolver.fold([Stored(objects.subject_of(POLICY), b'{"v":9}', 1)])
    resolver.replace_plan(plan, 1.0)
    objects.step(resolver, 2.0)
    assert resolver.live_rows == before
    resolver.fold([objects.gone(POLICY)])
    objects.step(resolver, 3.0)
    assert subjects.policy_in_force("p") not in resolver.live_rows


@pytest.mark.parametrize("subject", [subjects.routes("s", 0), subjects.group("u"), subjects.peer("n")])
def test_a_row_that_came_and_went_leaves_no_trace_in_the_total(subject: str) -> None:
    plan = held.Held()
    plan.put(
        subject,
        codec.encode(rows.Peer(addresses=())) if ".peer." in subject else b'{"policy":"p","policies":[]}',
    )
    assert plan.totals[subjects.ALL_SCOPE].count == 1
    plan.put(subject, b"")
    assert plan.totals[subjects.ALL_SCOPE] == held.Total()
    assert (plan.rows, plan.groups) == ({}, {})


def test_what_is_no_address_is_none() -> None:
    assert addresses.address("fe80::1%eth0") is None
    assert addresses.network("10.0.0.0/x") is None
    assert addresses.interface_address("eth0") is None
