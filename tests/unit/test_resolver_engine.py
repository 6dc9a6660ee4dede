"""The engine: gates, removals, slots, times, bad messages. Each test is a small history."""

import msgspec
import pytest

from ebbgate_bus.contracts import codec, facts, reports, rows, subjects
from ebbgate_bus.contracts.envelope import SEEN, TRACEPARENT, TTL, Stored
from ebbgate_resolver.core import engine
from ebbgate_resolver.core.plan import presence
from tests.unit import resolver_objects as objects

GW = objects.node("gw", "10.0.0.1", gw="yes")
SRC = objects.node("src", "10.0.0.2")
NET = objects.network("gw", "10.0.0.1/24", "10.0.0.9/24")
POD = objects.pod("a", "src", "10.1.0.1")
POLICY = objects.policy("p", "0.0.0.0/0")
TO_OTHER_IP = {"nodeSelector": {"matchLabels": {"gw": "yes"}}, "egressIP": "10.0.0.9"}
LABELLED = {"podSelector": {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}}
"""Chooses POD by other words than POLICY does."""
OTHER_IP = objects.policy("p", "0.0.0.0/0", egressGateway=TO_OTHER_IP)


def _slots(resolver: engine.Resolver) -> set[int]:
    """Those that the group's paths name."""
    paths = objects.group_of(resolver, "p").ipv4
    assert paths is not None
    return {paths.paths[i].slot for i in paths.buckets if i != rows.NO_PATH}


def _open() -> engine.Resolver:
    """The policy works: the gateway has reported its slot, the source has applied."""
    resolver = objects.resolver_of(GW, SRC, NET, POD, POLICY)
    objects.step(resolver)
    _report(resolver)
    objects.step(resolver)
    _report(resolver)
    assert objects.step(resolver).keys() <= {subjects.verdict("p")}
    assert _slots(resolver) == {slot for _, slot in objects.egress_of(resolver)}
    return resolver


def _report(resolver: engine.Resolver, *nodes: str) -> None:
    reported = [objects.stored(objects.applied(resolver, name)) for name in nodes or ("gw", "src")]
    resolver.fold(reported)


def test_a_new_path_waits_for_its_gateway_and_drops_until_then() -> None:
    resolver = objects.resolver_of(GW, SRC, NET, POD, POLICY)
    objects.step(resolver)
    assert set(objects.egress_of(resolver).values()) == {"10.0.0.1"}
    assert _slots(resolver) == {rows.NO_SLOT}
    assert objects.group_of(resolver, "p").awaiting == ("gw",)
    _report(resolver, "gw")
    written = objects.step(resolver)
    assert _slots(resolver) == {slot for _, slot in objects.egress_of(resolver)}
    assert objects.group_of(resolver, "p").awaiting == ()
    # One group row for everybody, no row of any node: the cost doesn't depend on the number of nodes.
    assert written.keys() == {subjects.group("uid-p"), subjects.commit(subjects.ALL_SCOPE), subjects.WRITER}


def test_a_gate_compares_the_egress_ip_not_the_slot_alone() -> None:
    resolver = objects.resolver_of(GW, SRC, NET, POD, POLICY)
    objects.step(resolver)
    right = objects.applied(resolver, "gw")
    wrong = msgspec.structs.replace(right, slots=dict.fromkeys(right.slots, "10.0.0.7"))
    resolver.fold([objects.stored(wrong)])
    objects.step(resolver)
    assert _slots(resolver) == {rows.NO_SLOT}


def test_a_changed_path_keeps_the_old_one_until_the_gateway_has_the_new() -> None:
    resolver = _open()
    (old,) = _slots(resolver)
    resolver.fold([objects.stored(OTHER_IP)])
    objects.step(resolver)
    assert _slots(resolver) == {old}
    assert sorted(objects.egress_of(resolver).values()) == ["10.0.0.1", "10.0.0.9"]
    _report(resolver, "gw")
    objects.step(resolver)
    assert objects.egress_of(resolver)["gw", _slots(resolver).pop()] == "10.0.0.9"


@pytest.mark.parametrize(
    "changed",
    [
        objects.policy("p", "0.0.0.0/0", "20.0.0.0/8", egressGateway=TO_OTHER_IP),
        objects.policy("p", "0.0.0.0/0", excludedCIDRs=["20.0.0.0/8"], egressGateway=TO_OTHER_IP),
        objects.policy("p", "0.0.0.0/0", selectors=[LABELLED], egressGateway=TO_OTHER_IP),
    ],
    ids=["destinations", "exclusions", "selectors"],
)
def test_an_old_path_does_not_stay_for_traffic_that_it_was_not_for(changed: facts.Policy) -> None:
    """What is new in the policy never meant to leave by the old egress IP."""
    resolver = _open()
    resolver.fold([objects.stored(changed)])
    objects.step(resolver)
    assert _slots(resolver) == {rows.NO_SLOT}
    _report(resolver, "gw")
    objects.step(resolver)
    assert objects.egress_of(resolver)["gw", _slots(resolver).pop()] == "10.0.0.9"


def test_what_changes_while_an_old_path_stays_does_not_get_it_either() -> None:
    resolver = _open()
    resolver.fold([objects.stored(OTHER_IP)])
    objects.step(resolver)
    assert rows.NO_SLOT not in _slots(resolver)
    resolver.fold([objects.stored(objects.policy("p", "20.0.0.0/8", egressGateway=TO_OTHER_IP))])
    objects.step(resolver)
    assert _slots(resolver) == {rows.NO_SLOT}


def test_other_traffic_by_the_same_path_needs_no_new_report() -> None:
    """A gateway that hasn't reported, as after a loss of the stream, still has what it had."""
    resolver = _open()
    before = _slots(resolver)
    changed = objects.policy("p", "0.0.0.0/0", "20.0.0.0/8")
    resolver.fold([objects.stored(reports.Applied(node="gw")), objects.stored(changed)])
    objects.step(resolver)
    assert _slots(resolver) == before


def test_an_old_path_does_not_outlive_its_address_or_its_node() -> None:
    for vanished in (objects.stored(objects.network("gw", "10.0.0.9/24")), objects.gone(GW)):
        resolver = _open()
        resolver.fold([objects.stored(OTHER_IP), vanished])
        objects.step(resolver)
        assert _slots(resolver) <= {rows.NO_SLOT}


def test_a_report_that_lost_a_slot_does_not_close_an_open_path() -> None:
    resolver = _open()
    resolver.fold([objects.stored(reports.Applied(node="gw"))])
    assert objects.step(resolver).keys() <= {subjects.verdict("p")}
    assert rows.NO_SLOT not in _slots(resolver)


def _without_policy() -> engine.Resolver:
    resolver = _open()
    resolver.fold([objects.stored(OTHER_IP)])
    objects.step(resolver)
    _report(resolver, "gw")
    objects.step(resolver)
    assert len(objects.egress_of(resolver)) == 2
    return resolver


def test_an_egress_row_goes_when_all_sources_have_let_go_and_not_before() -> None:
    resolver = _without_policy()
    all_commit = codec.decode(subjects.commit(subjects.ALL_SCOPE), _commit(resolver))
    assert isinstance(all_commit, rows.Commit)
    late = objects.applied(resolver, "src", all_revision=all_commit.revision - 1)
    resolver.fold([objects.stored(late)])
    objects.step(resolver)
    assert len(objects.egress_of(resolver)) == 2
    resolver.fold([objects.stored(msgspec.structs.replace(late, all_revision=all_commit.revision))])
    written = objects.step(resolver)
    assert list(objects.egress_of(resolver).values()) == ["10.0.0.9"]
    assert b"" in written.values()


def _commit(resolver: engine.Resolver) -> bytes:
    return codec.encode(resolver.commits[subjects.ALL_SCOPE])


def test_an_egress_row_stays_while_an_old_path_leads_to_it() -> None:
    resolver = _open()
    resolver.fold([objects.stored(OTHER_IP)])
    objects.step(resolver)
    _report(resolver, "src")
    objects.step(resolver)
    assert sorted(objects.egress_of(resolver).values()) == ["10.0.0.1", "10.0.0.9"]


def test_a_silent_source_does_not_hold_an_egress_row_for_ever() -> None:
    resolver = _without_policy()
    late = objects.stored(objects.applied(resolver, "src", all_revision=0))
    resolver.fold([late])
    objects.step(resolver, 100.0)
    objects.step(resolver, 100.0 + presence.SILENT_S - 1)
    assert len(objects.egress_of(resolver)) == 2
    objects.step(resolver, 100.0 + presence.SILENT_S)
    assert len(objects.egress_of(resolver)) == 1


def test_a_source_left_behind_is_no_peer_until_it_has_caught_up() -> None:
    resolver = _without_policy()
    resolver.fold([objects.stored(objects.applied(resolver, "src", all_revision=0))])
    objects.step(resolver, 100.0)
    assert subjects.peer("src") in resolver.live_rows
    objects.step(resolver, 100.0 + presence.SILENT_S)
    assert subjects.peer("src") not in resolver.live_rows
    resolver.fold([objects.stored(POD), objects.stored(objects.node("new", "10.0.0.3"))])
    objects.step(resolver, 800.0)
    assert subjects.peer("src") not in resolver.live_rows
    resolver.fold([objects.stored(objects.applied(resolver, "src"))])
    objects.step(resolver, 801.0)
    assert {subjects.peer(name) for name in ("src", "new")} <= resolver.live_rows.keys()


def test_a_beat_keeps_a_slow_source_counting() -> None:
    resolver = _without_policy()
    resolver.fold([objects.stored(objects.applied(resolver, "src", all_revision=0))])
    objects.step(resolver, 100.0)
    resolver.fold([Stored(subjects.beat("programmer", "src"), b"{}", 0)])
    objects.step(resolver, 600.0)
    objects.step(resolver, 100.0 + presence.SILENT_S)
    assert len(objects.egress_of(resolver)) == 2


def test_a_freed_slot_is_reserved_and_not_for_ever() -> None:
    (place,) = objects.egress_of(_open())
    freed = Stored(subjects.egress(*place), b"", 1)
    for now_s, same in ((1.0, False), (1.0 + engine.RESERVED_S, True)):
        resolver = objects.resolver_of(GW, SRC, NET, POD, POLICY)
        resolver.replace_plan([freed], 1.0)
        objects.step(resolver, now_s)
        assert (place in objects.egress_of(resolver)) is same


def test_before_all_kinds_are_synced_nothing_is_removed_or_changed() -> None:
    before = _open()
    resolver = objects.resolver_of(GW, SRC, synced=False)
    plan = [Stored(subject, payload, 1) for subject, payload in before.live_rows.items()]
    plan += [Stored(subjects.commit(s), codec.encode(c), 1) for s, c in before.commits.items()]
    resolver.replace_plan(plan, 1.0)
    assert resolver.step(1.0).batches == ()
    resolver.fold([objects.stored(objects.node("new", "10.0.0.3"))])
    # The new node may hold rows of an earlier life: its first Commit waits until all is listed.
    assert objects.step(resolver).keys() == {
        subjects.peer("new"),
        subjects.cluster("10.0.0.3/32"),
        subjects.commit(subjects.ALL_SCOPE),
        subjects.WRITER,
    }
    resolver.fold([objects.stored(each) for each in (*objects.SYNCED, NET)])
    objects.step(resolver)
    assert not [subject for subject in resolver.live_rows if ".endpoint." in subject or ".group." in subject]


def test_an_empty_plan_is_filled_when_all_kinds_are_synced_and_not_before() -> None:
    """Nodes may hold all of a plan that the bus has lost: what isn't listed yet would be taken away there."""
    resolver = objects.resolver_of(GW, SRC, NET, POD, POLICY, synced=False)
    for kind in facts.KINDS:
        assert resolver.step(1.0).batches == ()
        resolver.fold([objects.stored(facts.Synced(kind=kind))])
    assert subjects.commit(subjects.node_scope("src")) in objects.step(resolver)
    assert subjects.endpoint("src", "10.1.0.1") in resolver.live_rows


def test_no_endpoint_is_added_before_the_cluster_is_known() -> None:
    before = objects.resolver_of(GW, SRC, NET)
    objects.step(before)
    resolver = objects.resolver_of(GW, SRC, NET, POD, POLICY, synced=False)
    plan = [Stored(subject, payload, 1) for subject, payload in before.live_rows.items()]
    plan += [Stored(subjects.commit(s), codec.encode(c), 1) for s, c in before.commits.items()]
    resolver.replace_plan(plan, 1.0)
    objects.step(resolver)
    endpoint = subjects.endpoint("src", "10.1.0.1")
    assert endpoint not in resolver.live_rows
    resolver.fold([objects.stored(facts.Synced(kind=kind)) for kind in ("node", "servicecidr")])
    objects.step(resolver)
    assert endpoint in resolver.live_rows


def test_nothing_new_means_an_empty_step() -> None:
    resolver = _open()
    assert resolver.step(5.0) == engine.Step(now_s=5.0)
    resolver.fold([objects.stored(POD), objects.stored(GW)])
    assert resolver.step(6.0) == engine.Step(now_s=6.0)


def test_a_commit_that_disagrees_with_its_rows_is_written_anew() -> None:
    resolver = _open()
    wrong = rows.Commit(epoch=1, revision=1, count=7, digest="0" * 16)
    scope = subjects.node_scope("src")
    resolver.fold([objects.stored(POD)])
    plan = [Stored(subject, payload, 1) for subject, payload in resolver.live_rows.items()]
    plan += [Stored(subjects.commit(s), codec.encode(c), 1) for s, c in resolver.commits.items()]
    resolver.replace_plan([*plan, Stored(subjects.commit(scope), codec.encode(wrong), 2)], 1.0)
    assert objects.step(resolver).keys() == {subjects.commit(scope), subjects.WRITER}


def test_a_row_that_nobody_wants_or_can_read_is_removed() -> None:
    resolver = objects.resolver_of(GW)
    odd = f"{subjects.ALL_SCOPE}.group.gone"
    resolver.replace_plan([Stored(odd, b"{", 1), Stored(f"{subjects.ALL_SCOPE}.later.x", b"{}", 2)], 1.0)
    made = resolver.step(1.0)
    resolver.stored(made)
    assert {m.subject for m in objects.messages_of(made) if not m.payload} >= {odd}
    assert [note.event for note in made.notes] == ["row.unreadable"]
    assert odd not in resolver.live_rows


def test_what_cannot_be_read_is_noted_and_the_rest_goes_on() -> None:
    resolver = objects.resolver_of(GW, SRC, NET, POD, POLICY)
    newer = Stored(objects.subject_of(POD), b'{"v":2}', 1)
    resolver.fold(
        [newer, Stored("ebbgate.v1.fact.moon.x", b"{}", 1), objects.stored(objects.node("n", "10.0.0.4"))]
    )
    made = resolver.step(1.0)
    assert [note.event for note in made.notes][:2] == ["message.unreadable"] * 2
    assert "version 2" in made.notes[0].fields["reason"]
    written = {message.subject for message in objects.messages_of(made)}
    assert {subjects.endpoint("src", "10.1.0.1"), subjects.peer("n")} <= written


def test_messages_carry_the_trace_of_their_cause_and_tombstones_their_time_to_live() -> None:
    resolver = _open()
    headers = {SEEN: "17", TRACEPARENT: "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
    resolver.fold([Stored(objects.subject_of(POD), b"", 3, headers | {"other": "x"})])
    made = resolver.step(1.0)
    for message in (*objects.messages_of(made), *made.verdicts):
        assert {key: message.headers[key] for key in headers} == headers
        assert (TTL in message.headers) is (message.payload == b"")
        assert "other" not in message.headers
    resolver.stored(made)
    resolver.fold([objects.stored(POD)])
    assert all(message.headers == {} for message in objects.messages_of(resolver.step(1.0)))


def test_messages_carry_the_span_they_are_told_to() -> None:
    resolver = _open()
    resolver.fold([Stored(objects.subject_of(POD), b"", 3, {SEEN: "17"})])
    made = resolver.step(1.0, "00-mine")
    messages = [*objects.messages_of(made), *made.verdicts]
    assert messages
    assert all((each.headers[SEEN], each.headers[TRACEPARENT]) == ("17", "00-mine") for each in messages)


def test_what_is_read_anew_is_not_what_happened_just_now() -> None:
    resolver = _open()
    headers = {SEEN: "17", TRACEPARENT: "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
    resolver.fold([Stored(objects.subject_of(POD), b"", 3, headers)])
    known = resolver.cause
    assert known.subject == objects.subject_of(POD)
    resolver.replace_facts([Stored(objects.subject_of(GW), codec.encode(GW), 4, headers | {SEEN: "18"})])
    assert resolver.cause == known


def test_a_node_that_is_gone_loses_its_commit() -> None:
    resolver = objects.resolver_of(GW, SRC)
    objects.step(resolver)
    resolver.fold([objects.gone(SRC)])
    written = objects.step(resolver)
    assert written[subjects.commit(subjects.node_scope("src"))] == b""
    assert resolver.step(2.0).batches == ()


def test_of_two_pods_with_one_address_the_running_one_has_it() -> None:
    ended = msgspec.structs.replace(objects.pod("0", "src", "10.1.0.1"), phase="Pending")
    resolver = objects.resolver_of(GW, SRC, NET, POD, POLICY, ended)
    made = resolver.step(1.0)
    resolver.stored(made)
    endpoint = subjects.endpoint("src", "10.1.0.1")
    row = codec.decode(endpoint, resolver.live_rows[endpoint])
    assert isinstance(row, rows.Endpoint)
    assert row.pod == "default/a"
    shared = [note for note in made.notes if note.event == "pod_ip.shared"]
    assert [note.fields["ignored"] for note in shared] == ["default/0"]


def test_pods_that_are_no_endpoints() -> None:
    pods = [
        msgspec.structs.replace(POD, name="host", host_network=True, ips=("10.0.0.2",)),
        msgspec.structs.replace(POD, name="done", phase="Succeeded", ips=("10.1.0.2",)),
        msgspec.structs.replace(POD, name="failed", phase="Failed", ips=("10.1.0.3",)),
        msgspec.structs.replace(POD, name="early", ips=()),
        msgspec.structs.replace(POD, name="starting", ips=(), phase="Pending"),
        msgspec.structs.replace(POD, name="lost", node="nowhere", ips=("10.1.0.4",)),
        msgspec.structs.replace(POD, name="odd", ips=("not an address",)),
    ]
    resolver = objects.resolver_of(GW, SRC, NET, POLICY, *pods, objects.node("bare"))
    made = resolver.step(1.0)
    resolver.stored(made)
    said = {(note.event, note.fields.get("pod", note.fields.get("node"))) for note in made.notes}
    assert said == {
        ("pod.ignored", "default/host"),
        ("pod.ignored", "default/early"),
        ("node.ignored", "bare"),
    }
    assert not [subject for subject in resolver.live_rows if ".endpoint." in subject]


def test_cluster_destinations_come_from_the_api_and_the_setting() -> None:
    resolver = engine.Resolver(cluster_cidrs=("172.16.0.0/12", "nonsense"))
    node = msgspec.structs.replace(
        SRC, pod_cidrs=("10.1.0.0/24", "fd00:1::/64"), addresses=("10.0.0.2", "fd00::2")
    )
    service = facts.ServiceCidr(name="kubernetes", cidrs=("10.96.0.0/12",))
    resolver.replace_facts([objects.stored(each) for each in (*objects.SYNCED, node, service)])
    resolver.replace_plan([], 0.0)
    objects.step(resolver)
    found = [codec.decode(s, p) for s, p in resolver.live_rows.items() if ".cluster." in s]
    assert {row.cidr: row.source for row in found if isinstance(row, rows.Cluster)} == {
        "10.0.0.2/32": "address of src",
        "10.1.0.0/24": "podCIDR of src",
        "10.96.0.0/12": "ServiceCIDR kubernetes",
        "172.16.0.0/12": "setting",
        "fd00:1::/64": "podCIDR of src",
        "fd00::2/128": "address of src",
    }
