"""explain says what happens to a packet, and why nothing else does."""

import ipaddress
from typing import Any

import msgspec
import pytest

from ebbgate_bus.contracts import codec, facts, reports, rows, subjects
from ebbgate_programmer.core import places
from ebbgate_resolver.core import inventory
from ebbgate_resolver.core.people import explain, explain_pods, explain_policies
from ebbgate_resolver.core.people.explanation import Explanation, Outcome, Result, Why
from ebbgate_resolver.core.plan import held
from ebbgate_resolver.core.rules import selectors
from tests.unit import resolver_objects as objects

GW = objects.node("gw", "10.0.0.1", gw="yes")
SRC = objects.node("src", "10.0.0.2")
NET = objects.network("gw", "10.0.0.1/24")
POD = objects.pod("a", "src", "10.1.0.1", app="x")
POLICY = objects.policy("p", "20.0.0.0/8")
SLOT = {subjects.egress("gw", 77): rows.Egress(egress_ip="10.0.0.1", interface="eth0")}
APPLIED = reports.Applied(node="gw", slots={"77": "10.0.0.1"})


def told(
    *known: Any, to: str = "20.0.0.1", plan: dict[str, Any] | None = None, pod: facts.Pod = POD
) -> Explanation:
    stored = held.Held()
    for subject, row in (SLOT if plan is None else plan).items():
        stored.put(subject, codec.encode(row))
    seen = explain.view(objects.inventory_of(pod, *known), stored)
    return explain.explain(seen, explain.Packet(pod, ipaddress.ip_address(to)))


def why(explanation: Explanation, policy: str) -> tuple[Result, tuple[Why, ...]]:
    (answer,) = [each for each in explanation.policies if each.policy == policy]
    return answer.result, answer.why


def test_a_steered_packet_names_all_that_carries_it() -> None:
    found = told(GW, SRC, NET, POLICY, APPLIED)
    assert (found.outcome, found.reason) == (Outcome.STEERED, "it leaves by gw as 10.0.0.1")
    assert (found.policy, found.cidr, found.slot, found.interface) == ("p", "20.0.0.0/8", 77, "eth0")
    assert (found.gateway, found.gateway_ip, found.egress_ip) == ("gw", "10.0.0.1", "10.0.0.1")
    assert why(found, "p") == (
        Result.DECIDES,
        (Why("the pod is chosen by selectors[0]"), Why("it steers 20.0.0.0/8")),
    )
    assert found.why[0].because == (Why('src can\'t: label gw is absent, wanted "yes"'),)


@pytest.mark.parametrize(
    ("known", "plan", "reason"),
    [
        ((SRC, POLICY), None, "policy p steers 20.0.0.0/8, and no node can be its gateway"),
        ((GW, SRC, POLICY), None, "policy p steers 20.0.0.0/8, and gw has no IPv4 egress IP for it"),
        ((GW, SRC, NET, POLICY), None, "gw has not said yet that 10.0.0.1 is in its kernel"),
        (
            (GW, SRC, NET, POLICY),
            {},
            "10.0.0.1 has no slot on gw yet: the resolver has not written its rows",
        ),
        (
            (GW, SRC, NET, POLICY),
            {
                subjects.egress("gw", slot): rows.Egress(egress_ip="192.0.2.1")
                for slot in range(rows.SLOT_MIN, rows.SLOT_MAX + 1)
            },
            "all 4080 slots of gw are taken, 10.0.0.1 has none",
        ),
    ],
)
def test_what_cannot_be_served_is_dropped_and_it_is_said_why(
    known: tuple[Any, ...], plan: dict[str, Any] | None, reason: str
) -> None:
    found = told(*known, plan=plan)
    assert (found.outcome, found.reason) == (Outcome.DROPPED, reason)


def test_an_old_path_stays_until_the_new_gateway_answers() -> None:
    old = objects.node("old", "10.0.0.9", gw="no")
    paths = rows.Paths(paths=(rows.Path("old", "10.0.0.9", 99),), buckets=(0,) * rows.BUCKETS)
    plan = SLOT | {
        subjects.egress("old", 99): rows.Egress(egress_ip="10.0.0.9", interface="eth0"),
        subjects.group("uid-p"): rows.Group(policy="p", ipv4=paths),
    }
    found = told(GW, SRC, NET, old, objects.network("old", "10.0.0.9/24"), POLICY, plan=plan)
    assert (found.outcome, found.gateway, found.slot) == (Outcome.STEERED, "old", 99)
    assert found.why[0].text.endswith("until then the old path stays")
    assert told(GW, SRC, NET, old, POLICY, plan=plan).outcome is Outcome.DROPPED
    empty = msgspec.structs.replace(paths, buckets=(rows.NO_PATH,) * rows.BUCKETS)
    without = plan | {subjects.group("uid-p"): rows.Group(policy="p", ipv4=empty)}
    assert told(GW, SRC, NET, old, POLICY, plan=without).outcome is Outcome.DROPPED


def test_destinations_outside_all_policies() -> None:
    every = objects.policy("p", "0.0.0.0/0", "::/0")
    found = told(GW, SRC, NET, every, APPLIED, to="10.0.0.2")
    assert found.outcome is Outcome.CLUSTER
    assert found.reason == "10.0.0.2 is in 10.0.0.2/32 (address of src), which is never steered"
    assert why(found, "p")[0] is Result.WOULD_DECIDE
    assert told(GW, SRC, NET, every, to="169.254.169.254").outcome is Outcome.NEVER
    assert told(GW, SRC, NET, every, to="fe80::1").outcome is Outcome.NEVER


def test_an_exclusion_says_whose_it_is() -> None:
    found = told(GW, SRC, NET, objects.policy("p", "20.0.0.0/8", excludedCIDRs=["20.0.0.0/16"]))
    assert found.outcome is Outcome.EXCLUDED
    assert found.reason == "policy p excludes 20.0.0.0/16: it leaves as if there were no policy"


def test_why_others_lost() -> None:
    found = told(
        *(GW, SRC, NET, APPLIED),
        objects.policy("old", "20.0.0.0/16", created="2024-01-01T00:00:00Z"),
        objects.policy("same", "20.0.0.0/16", created="2024-01-01T00:00:00Z"),
        objects.policy("young", "20.0.0.0/16"),
        objects.policy("wide", "0.0.0.0/0", excludedCIDRs=["20.0.0.0/8"]),
        objects.policy("aside", *(f"{n}.0.0.0/8" for n in range(30, 40))),
        objects.policy("empty"),
        objects.policy("bad", "nonsense"),
    )
    assert found.policy == "old"
    assert why(found, "same")[0] is Result.CONFLICT
    assert why(found, "same")[1][-1].text.endswith("old, which has the smaller name at the same age")
    older = "which is older (2024-01-01T00:00:00Z, against an unknown age)"
    assert why(found, "young")[1][-1].text == f"it steers 20.0.0.0/16, and so does old, {older}"
    assert why(found, "wide") == (
        Result.LESS_SPECIFIC,
        (
            Why("the pod is chosen by selectors[0]"),
            Why("it excludes 20.0.0.0/8; 20.0.0.0/16 of old is more specific"),
        ),
    )
    assert why(found, "aside")[1][0].text.endswith("37.0.0.0/8 and 2 more")
    assert why(found, "empty") == (Result.NOT_COVERED, (Why("destinationCIDRs is empty"),))
    result, reasons = why(found, "bad")
    assert result is Result.REJECTED
    assert reasons[0].text.startswith("generation 1 is rejected: spec.destinationCIDRs[0]: 'nonsense'")


def test_a_rejected_update_is_said_beside_what_the_version_in_force_does() -> None:
    in_force = rows.PolicyInForce(uid="uid-p", generation=1, spec=POLICY.spec)
    update = msgspec.structs.replace(objects.policy("p", "nonsense"), generation=2)
    found = told(GW, SRC, NET, update, APPLIED, plan=SLOT | {subjects.policy_in_force("p"): in_force})
    assert found.outcome is Outcome.STEERED
    assert why(found, "p")[1][0].text.endswith("generation 1 stays in force")


def test_why_a_policy_does_not_choose_the_pod_label_by_label() -> None:
    spec = [
        {
            "podSelector": {"matchLabels": {"app": "y", "tier": "t"}},
            "nodeSelector": {"matchLabels": {"z": "b"}},
        },
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}},
    ]
    found = told(GW, SRC, NET, objects.policy("p", "20.0.0.0/8", selectors=spec))
    assert found.outcome is Outcome.NOT_MATCHED
    result, (first, second) = why(found, "p")
    assert result is Result.NOT_CHOSEN
    assert [each.text for each in first.because] == [
        'podSelector: the pod\'s label app is "x", wanted "y"',
        'podSelector: the pod\'s label tier is absent, wanted "t"',
        'nodeSelector: node src\'s label z is absent, wanted "b"',
    ]
    assert second.because[0].text.startswith("namespaceSelector: namespace default's label")
    none = told(GW, SRC, NET, objects.policy("p", "20.0.0.0/8", selectors=[]))
    assert why(none, "p")[1] == (Why("selectors is empty, and so chooses no pod"),)


@pytest.mark.parametrize(
    ("operator", "values", "labels", "said"),
    [
        ("In", ["a", "b"], {"k": "c"}, 'label k is "c", wanted one of "a", "b"'),
        ("In", ["a"], {"k": "a"}, ""),
        ("NotIn", ["a"], {"k": "a"}, 'label k is "a", wanted any other than "a"'),
        ("NotIn", ["a"], {}, ""),
        ("Exists", None, {}, "label k is absent, and must be there"),
        ("Exists", None, {"k": ""}, ""),
        ("DoesNotExist", None, {"k": ""}, 'label k is "", and must be absent'),
        ("DoesNotExist", None, {}, ""),
    ],
)
def test_each_operator_says_what_is_wrong(
    operator: str, values: list[str] | None, labels: dict[str, str], said: str
) -> None:
    spec = selectors.SelectorSpec(None, [selectors.ExpressionSpec("k", operator, values)])
    (requirement,) = selectors.parse(spec, "s").requirements
    assert explain_policies.unmet(requirement, labels) == said


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"host_network": True}, "on the host's network"),
        ({"phase": "Succeeded"}, "the pod has ended (Succeeded)"),
        ({"ips": ()}, "the pod has no IP address"),
        ({"ips": ("fd00::1",)}, "the pod has no IPv4 address"),
        ({"node": "moon"}, "the pod's node moon is not known"),
        ({"node": ""}, "the pod has no node yet"),
    ],
)
def test_a_pod_that_no_policy_can_apply_to_is_told_why(changed: dict[str, Any], said: str) -> None:
    pod = msgspec.structs.replace(POD, **changed)
    found = told(GW, SRC, NET, POLICY, pod=pod)
    assert found.outcome is Outcome.NOT_MATCHED
    assert said in found.reason


def test_of_two_pods_with_one_address_the_newer_has_it_and_it_is_said() -> None:
    newer = msgspec.structs.replace(
        objects.pod("z", "src", "10.1.0.1", app="y"), created="2025-01-01T00:00:00Z"
    )
    theirs = objects.policy("q", "20.0.0.0/8", selectors=[{"podSelector": {"matchLabels": {"app": "y"}}}])
    mine = objects.policy("p", "20.0.0.0/8", selectors=[{"podSelector": {"matchLabels": {"app": "x"}}}])
    found = told(GW, SRC, NET, mine, theirs, newer, APPLIED)
    assert found.policy == "q"
    assert found.why[0].text == "10.1.0.1 is also the address of default/a; its packets count as default/z's"


def test_a_node_that_is_behind_is_said() -> None:
    commits = {subjects.commit(subjects.ALL_SCOPE): rows.Commit(epoch=1, revision=9, count=1, digest="")}
    found = told(GW, SRC, NET, POLICY, APPLIED, plan=SLOT | commits)
    assert found.why[-1].text == "src has no programmer that ever reported: nothing is in its kernel"
    behind = reports.Applied(node="src", all_revision=8, node_revision=8)
    found = told(GW, SRC, NET, POLICY, APPLIED, behind, plan=SLOT | commits)
    assert found.why[-1].text == "src has not applied the latest revision yet (8/8 of 9/0)"


def test_a_newer_pod_has_the_address_though_no_policy_chooses_it() -> None:
    newer = msgspec.structs.replace(POD, name="z", labels={}, created="2025-01-01T00:00:00Z")
    older = msgspec.structs.replace(POD, created="2024-01-01T00:00:00Z")
    policy = objects.policy("p", "20.0.0.0/8", selectors=[{"podSelector": {"matchLabels": {"app": "x"}}}])
    found = told(GW, SRC, NET, policy, APPLIED, newer, pod=older)
    assert found.outcome is Outcome.NOT_MATCHED
    assert found.reason == "no policy chooses default/z, which has 10.1.0.1 now, and covers the destination"
    assert found.why[0].text == "10.1.0.1 is also the address of default/a; its packets count as default/z's"


def test_a_policy_with_a_copied_uid_says_whose_it_is() -> None:
    copy = msgspec.structs.replace(POLICY, name="q")
    result, (reason,) = why(told(GW, SRC, NET, POLICY, copy), "q")
    assert result is Result.REJECTED
    assert "is rejected: metadata.uid: uid-p is the uid of policy p" in reason.text


def test_pods_are_found_by_name_and_by_address_and_near_names_are_offered() -> None:
    ended = msgspec.structs.replace(objects.pod("b", "src", "10.1.0.1"), phase="Failed")
    known: inventory.Inventory = objects.inventory_of(SRC, POD, ended)
    assert explain_pods.find(known, "default/a") is explain_pods.find(known, "10.1.0.1")
    assert explain_pods.find(known, "default/c") is None
    assert explain_pods.find(known, "10.1.0.9") is None
    assert explain_pods.near(known, "other/b") == ["default/b", "default/a"][:1]


@pytest.mark.parametrize(
    ("gateway", "network", "said"),
    [
        ({}, NET, ""),
        ({}, objects.network("gw", "10.0.0.1/24", default_route=()), "no interface with a default route"),
        ({"interface": "eth0"}, objects.network("gw", "fd00::1/64"), "its interface eth0 has no usable IPv4"),
        ({"interface": "eth1"}, NET, "it has no interface eth1; it has: eth0"),
        ({"egressIP": "192.0.2.1"}, NET, "192.0.2.1 is on none of its interfaces (eth0)"),
    ],
)
def test_why_a_node_is_no_gateway(gateway: dict[str, Any], network: facts.NodeNetwork, said: str) -> None:
    spec = {"nodeSelector": {"matchLabels": {"gw": "yes"}}} | gateway
    lame = objects.node("lame", gw="yes")
    found = told(GW, SRC, lame, network, objects.policy("p", "20.0.0.0/8", egressGateway=spec), APPLIED)
    reasons = {each.text.split(" can't: ")[0]: each.text for each in found.why[0].because}
    assert reasons["lame"].endswith("it has no internal IP address")
    assert ("gw" in reasons) == bool(said)
    assert said in reasons.get("gw", "")


def test_two_nodes_with_one_address_are_said() -> None:
    found = told(GW, SRC, NET, POLICY, APPLIED, objects.node("twin", "10.0.0.1"))
    assert found.outcome is Outcome.DROPPED
    clash = "gw can't: its address 10.0.0.1 is also that of twin; delete the Node that is no more"
    assert found.why[0].because[0] == Why(clash)


def test_of_many_nodes_some_are_named_and_the_rest_counted() -> None:
    many = [objects.node(f"n{i:02}", f"10.2.0.{i}") for i in range(20)]
    found = told(GW, SRC, NET, POLICY, APPLIED, *many)
    assert found.why[0].because[-1].text == "and 13 more nodes that can't"


def test_the_destinations_that_are_never_steered_are_those_of_the_nodes_rules() -> None:
    assert set(explain.NEVER) == {cidr for family in places.NEVER.values() for cidr in family}
