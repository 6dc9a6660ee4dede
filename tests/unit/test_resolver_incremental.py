"""What an index could miss, one history each: the engine and the plain one take every step together."""

import msgspec

from ebbgate_bus.contracts import codec, facts, reports, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.contracts.message import Message
from ebbgate_resolver.core import answers
from tests.properties import engine_twins
from tests.unit import resolver_objects as objects

GW = objects.node("gw", "10.0.0.1", gw="yes")
SRC = objects.node("src", "10.0.0.2")
NET = objects.network("gw", "10.0.0.1/24", "10.0.0.9/24")
POD = objects.pod("a", "src", "10.1.0.1", app="a")
ENDPOINT = subjects.endpoint("src", "10.1.0.1")


def _twins(*messages: Message) -> engine_twins.Twins:
    resolver = engine_twins.Twins()
    resolver.epoch = 1
    resolver.replace_facts([objects.stored(each) for each in (*objects.SYNCED, GW, SRC, NET, POD, *messages)])
    resolver.replace_reports([])
    resolver.replace_plan([], 0.0)
    _step(resolver)
    return resolver


def _step(resolver: engine_twins.Twins, *messages: Stored) -> None:
    """Fold, and step until nothing changes; the twins compare each step."""
    resolver.fold(messages)
    for now_s in (1.0, 2.0, 3.0):
        resolver.stored(resolver.step(now_s))


def _policy(**rule: object) -> facts.Policy:
    return objects.policy("p", "0.0.0.0/0", selectors=[{"podSelector": {}} | rule])


def test_pods_follow_their_namespace_when_it_is_relabelled() -> None:
    resolver = _twins(_policy(namespaceSelector={"matchLabels": {"team": "a"}}))
    assert ENDPOINT not in resolver.live_rows
    _step(resolver, objects.stored(facts.Namespace(name="default", labels={"team": "a"})))
    assert ENDPOINT in resolver.live_rows
    _step(resolver, objects.stored(facts.Namespace(name="default", labels={"team": "b"})))
    assert ENDPOINT not in resolver.live_rows


def test_pods_follow_their_node_when_it_is_relabelled_or_gone() -> None:
    resolver = _twins(_policy(nodeSelector={"matchLabels": {"zone": "b"}}))
    assert ENDPOINT not in resolver.live_rows
    _step(resolver, objects.stored(objects.node("src", "10.0.0.2", zone="b")))
    assert ENDPOINT in resolver.live_rows
    _step(resolver, objects.gone(SRC))
    assert ENDPOINT not in resolver.live_rows
    _step(resolver, objects.stored(objects.node("src", "10.0.0.2", zone="b")))
    assert ENDPOINT in resolver.live_rows


def test_a_policy_under_another_uid_has_other_sets_and_another_group() -> None:
    resolver = _twins(_policy())
    before = resolver.live_rows[ENDPOINT]
    _step(resolver, objects.stored(msgspec.structs.replace(_policy(), uid="later")))
    assert resolver.live_rows[ENDPOINT] != before
    assert subjects.group("later") in resolver.live_rows
    assert subjects.group("uid-p") not in resolver.live_rows


def test_a_pod_follows_its_labels_and_its_node() -> None:
    resolver = _twins(_policy(podSelector={"matchLabels": {"app": "a"}}))
    assert ENDPOINT in resolver.live_rows
    _step(resolver, objects.stored(objects.pod("a", "src", "10.1.0.1", app="b")))
    assert ENDPOINT not in resolver.live_rows
    _step(resolver, objects.stored(objects.pod("a", "gw", "10.1.0.1", app="a")))
    assert subjects.endpoint("gw", "10.1.0.1") in resolver.live_rows


def test_each_operator_finds_its_pods_when_policies_and_pods_come_in_either_order() -> None:
    for expression in (
        {"key": "app", "operator": "In", "values": ["a", "c"]},
        {"key": "app", "operator": "NotIn", "values": ["b"]},
        {"key": "app", "operator": "Exists"},
        {"key": "tier", "operator": "DoesNotExist"},
    ):
        policy = _policy(podSelector={"matchExpressions": [expression]})
        resolver = _twins(policy)
        assert ENDPOINT in resolver.live_rows, expression
        _step(resolver, objects.gone(policy))
        assert ENDPOINT not in resolver.live_rows, expression
        _step(resolver, objects.stored(policy))
        assert ENDPOINT in resolver.live_rows, expression


def test_an_address_goes_to_the_next_pod_when_its_owner_leaves() -> None:
    older = msgspec.structs.replace(POD, name="b", uid="uid-b", created="2020-01-01T00:00:00Z")
    newer = msgspec.structs.replace(POD, created="2024-01-01T00:00:00Z")
    resolver = _twins(_policy(), older)
    _step(resolver, objects.stored(newer))
    assert b"default/a" in resolver.live_rows[ENDPOINT]
    _step(resolver, objects.gone(newer))
    assert b"default/b" in resolver.live_rows[ENDPOINT]


def test_an_address_is_its_newest_pods_whoever_chooses_it_and_that_is_said() -> None:
    chosen = _policy(podSelector={"matchLabels": {"app": "a"}})
    resolver = _twins(chosen)
    newer = msgspec.structs.replace(
        POD, name="b", uid="uid-b", labels={"app": "b"}, created="2024-01-01T00:00:00Z"
    )
    resolver.fold([objects.stored(newer)])
    made = resolver.step(5.0)
    resolver.stored(made)
    assert ENDPOINT not in resolver.live_rows
    said = {"ip": "10.1.0.1", "node": "src", "owner": "default/b", "ignored": "default/a"}
    assert made.notes == (answers.note("pod_ip.shared", **said),)
    verdict = codec.decode(subjects.verdict("p"), made.verdicts[0].payload)
    assert isinstance(verdict, reports.Verdict)
    assert (verdict.pods, verdict.nodes_wanted) == (0, ("gw",)), (
        "a pod without its address is awaited by nobody"
    )
    _step(resolver, objects.stored(_policy(podSelector={"matchLabels": {"app": "b"}})))
    assert b"default/b" in resolver.live_rows[ENDPOINT]
    _step(resolver, objects.stored(chosen), objects.stored(msgspec.structs.replace(newer, phase="Succeeded")))
    assert b"default/a" in resolver.live_rows[ENDPOINT]


def test_a_shared_address_that_no_policy_is_about_is_nothing_to_talk_about() -> None:
    resolver = _twins(_policy(podSelector={"matchLabels": {"app": "c"}}))
    resolver.fold([objects.stored(msgspec.structs.replace(POD, name="b", uid="uid-b"))])
    assert resolver.step(5.0).notes == ()


def test_a_problem_that_a_node_reports_is_in_the_verdict_until_it_is_gone() -> None:
    resolver = _twins(_policy())
    for problems in ((reports.Problem(reason="map full", policy="p"),), ()):
        applied = reports.Applied(node="src", node_revision=9, all_revision=9, problems=problems)
        resolver.fold([objects.stored(applied)])
        made = resolver.step(9.0)
        resolver.stored(made)
        assert (b"map full" in made.verdicts[0].payload) is bool(problems)


def test_a_problem_that_is_about_no_policy_is_in_no_verdict() -> None:
    resolver = _twins(_policy())
    for problems in ((reports.Problem(reason="forwarding is off"),), ()):
        applied = reports.Applied(node="src", node_revision=9, all_revision=9, problems=problems)
        resolver.fold([objects.stored(applied)])
        made = resolver.step(9.0)
        resolver.stored(made)
        assert all(b"forwarding" not in verdict.payload for verdict in made.verdicts)


def test_a_world_that_is_read_again_unchanged_is_silent() -> None:
    resolver = _twins(_policy())
    everything = [objects.stored(each) for each in (*objects.SYNCED, GW, SRC, NET, POD, _policy())]
    resolver.replace_facts(everything)
    assert resolver.step(5.0).batches == ()
    resolver.replace_facts(everything[:-1])
    resolver.stored(resolver.step(6.0))
    assert ENDPOINT not in resolver.live_rows
