"""`ebbgate policies`: a line for each policy with the first thing that hinders it, or one in full."""

import json

import msgspec

from ebbgate_bus.contracts import codec, reports, subjects
from ebbgate_bus.contracts.reports import Condition, Truth, Verdict
from ebbgate_cli import policies
from tests.unit import resolver_objects as objects


def _condition(type_: str, status: Truth, reason: str, message: str = "") -> Condition:
    return Condition(type=type_, status=status, reason=reason, message=message)


READY = Verdict(
    policy="p",
    uid="uid-p",
    generation=2,
    in_force=2,
    conditions=(
        _condition("Accepted", Truth.TRUE, "Valid"),
        _condition("GatewayFound", Truth.TRUE, "Found", "gw"),
        _condition("EgressIPReady", Truth.TRUE, "Ready", "10.0.0.1"),
        _condition("Programmed", Truth.TRUE, "Applied", "2 of 2 nodes"),
        _condition("Conflict", Truth.FALSE, "None"),
    ),
    gateways=(
        reports.ServingGateway(node="g1", gateway_ip="10.0.0.1", egress_ips=("192.0.2.1",), pods=2),
        reports.ServingGateway(node="g2", gateway_ip="10.0.0.2", pods=1),
    ),
    pods=3,
    nodes_wanted=("g1", "src"),
    nodes_programmed=("g1", "src"),
)


def _with(condition: Condition) -> Verdict:
    changed = tuple(condition if each.type == condition.type else each for each in READY.conditions)
    return msgspec.structs.replace(READY, conditions=changed, nodes_programmed=("g1",))


def test_a_ready_policy_on_one_line() -> None:
    assert policies.cells(READY) == ("p", "True", "g1,g2", "192.0.2.1", "3", "2/2", "none")


def test_the_first_hindrance_is_the_reason() -> None:
    waiting = _with(_condition("Programmed", Truth.FALSE, "Waiting", "not yet applied by src"))
    assert policies.cells(waiting)[1:] == (
        *("False", "g1,g2", "192.0.2.1", "3", "1/2"),
        "Waiting: not yet applied by src",
    )


def test_a_lost_conflict_is_told_though_the_policy_is_ready() -> None:
    lost = _with(_condition("Conflict", Truth.TRUE, "OlderPolicyWins", "0.0.0.0/0 (served by q)"))
    assert policies.cells(lost)[1] == "True"
    assert policies.cells(lost)[-1] == "OlderPolicyWins: 0.0.0.0/0 (served by q)"


def test_many_gateways_are_cut() -> None:
    many = tuple(reports.ServingGateway(node=f"g{i}", gateway_ip="10.0.0.1") for i in range(5))
    assert policies.cells(msgspec.structs.replace(READY, gateways=many))[2:4] == ("g0,g1,g2,+2", "none")


def test_a_policy_that_nobody_judged_is_unknown_and_a_verdict_of_its_forerunner_is_not_its_own() -> None:
    fact = objects.policy("p", "0.0.0.0/0")
    newer = msgspec.structs.replace(fact, uid="another")
    for known, is_own in ((fact, True), (newer, False)):
        payloads = {
            objects.subject_of(known): codec.encode(known),
            subjects.verdict("p"): codec.encode(READY),
            subjects.verdict("odd"): b'{"v":9}',
        }
        (found,) = policies.verdicts(payloads)
        assert (found == READY) is is_own
    assert policies.cells(found)[1] == "Unknown"
    assert policies.cells(found)[-1] == "NoVerdict: no resolver has judged it yet"
    assert "none in force" in policies.text(found)


def test_one_policy_in_full() -> None:
    text = policies.text(_with(_condition("Programmed", Truth.FALSE, "Waiting", "1 of 2 nodes")))
    assert text.splitlines() == [
        "policy p: not ready, Waiting",
        "  generation 2 judged, generation 2 in force",
        "  conditions",
        "    Accepted=True (Valid)",
        "    GatewayFound=True (Found): gw",
        "    EgressIPReady=True (Ready): 10.0.0.1",
        "    Programmed=False (Waiting): 1 of 2 nodes",
        "    Conflict=False (None)",
        "  pods: 3",
        "  gateways",
        "    g1 (10.0.0.1): 192.0.2.1; 2 of 3 pods",
        "    g2 (10.0.0.2): no egress IP, its pods' traffic is dropped; 1 of 3 pods",
        "  nodes programmed: 1 of 2",
        "    missing: src",
    ]
    assert json.loads(policies.as_json(READY))["pods"] == 3
    assert policies.text(READY).startswith("policy p: ready\n")
