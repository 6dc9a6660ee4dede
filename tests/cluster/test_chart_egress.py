"""Whom pods may call, by the network policies that the chart makes where it is asked to.

That they suffice, and keep from the rest, is seen by tests/real_cluster/test_deployment.py.
"""

from typing import Any

import pytest

from .test_chart import Manifest, named, rendered

DNS = frozenset({("UDP", 53), ("TCP", 53)})
ANYWHERE = "anywhere"
Rules = set[tuple[str, frozenset[tuple[str, int]]]]


def egress(**values: Any) -> dict[str, Rules]:
    """Component -> where to, and the ports there."""
    policies = values.pop("networkPolicies", {})
    found = rendered(networkPolicies={"egress": {"enabled": True} | policies}, **values)
    return {
        each["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]: rules(each)
        for each in found
        if each["kind"] == "NetworkPolicy" and each["spec"]["policyTypes"] == ["Egress"]
    }


def rules(policy: Manifest) -> Rules:
    return {
        (place, frozenset((port.get("protocol", "TCP"), port["port"]) for port in rule["ports"]))
        for rule in policy["spec"]["egress"]
        for place in [where(peer) for peer in rule.get("to", [])] or [ANYWHERE]
    }


def where(peer: dict[str, Any]) -> str:
    if "ipBlock" in peer:
        return str(peer["ipBlock"]["cidr"])
    return str(peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"])


def tcp(*ports: int) -> frozenset[tuple[str, int]]:
    return frozenset(("TCP", port) for port in ports)


def test_nobody_is_limited_who_does_not_ask_for_it() -> None:
    policies = [each for each in rendered() if each["kind"] == "NetworkPolicy"]
    assert policies
    assert {tuple(each["spec"]["policyTypes"]) for each in policies} == {("Ingress",)}


def test_each_may_call_whom_it_needs() -> None:
    bus, api = ("nats", tcp(4222)), (ANYWHERE, tcp(443, 6443))
    dns = (ANYWHERE, DNS)
    assert egress() == {
        "watcher": {dns, api, bus},
        "resolver": {dns, bus},
        "usher": {dns, api, bus},
        "credentials": {dns, api},
        "cli": {dns, bus},
        "nats": {dns, ("nats", tcp(6222))},
    }


def test_no_policy_limits_the_job_that_an_upgrade_begins_with() -> None:
    """Those that are installed may be what it is to put right."""
    found = rendered(networkPolicies={"egress": {"enabled": True}})
    selectors = [
        each["spec"]["podSelector"]["matchLabels"].items()
        for each in found
        if each["kind"] == "NetworkPolicy" and each["spec"]["policyTypes"] == ["Egress"]
    ]
    job = named(found, "Job", "ebbgate-credentials-setup")["spec"]
    later = named(found, "CronJob", "ebbgate-credentials")["spec"]["jobTemplate"]["spec"]
    limiting = [
        [each for each in selectors if each <= it["template"]["metadata"]["labels"].items()]
        for it in (job, later)
    ]
    assert [len(each) for each in limiting] == [0, 1]


def test_the_api_server_is_where_one_says() -> None:
    found = egress(
        networkPolicies={"apiServerCIDRs": ["10.0.0.1/32", "10.0.0.2/32"], "apiServerPorts": [8443]}
    )
    api = {("10.0.0.1/32", tcp(8443)), ("10.0.0.2/32", tcp(8443))}
    for name in ("watcher", "usher", "credentials"):
        assert api <= found[name]
        assert (ANYWHERE, tcp(443, 6443)) not in found[name]


@pytest.mark.parametrize(
    ("nats", "ports"),
    [
        ({"url": "nats://one,tls://two2:5222,nats://[fd00::1]:6333"}, (4222, 5222, 6333)),
        ({"url": "nats://[fd00::1]"}, (4222,)),
        ({"urlSecret": "where"}, (4222,)),
    ],
)
def test_a_nats_of_ones_own_is_reached_by_its_ports(nats: dict[str, str], ports: tuple[int, ...]) -> None:
    found = egress(nats=nats)
    assert found == {name: found["cli"] | found[name] for name in ("watcher", "resolver", "cli")}
    assert found["cli"] == {(ANYWHERE, DNS), (ANYWHERE, tcp(*ports))}


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [("http://collector:4318", 4318), ("https://a.example/otlp/", 443), ("http://[fd00::1]", 80)],
)
def test_who_traces_reaches_the_receiver(endpoint: str, port: int) -> None:
    found = egress(tracing={"endpoint": endpoint})
    reaching = {name for name, places in found.items() if (ANYWHERE, tcp(port)) in places}
    assert reaching == {"watcher", "resolver"}


def test_what_one_needs_beside_is_allowed_to_all() -> None:
    proxy = {"ports": [{"port": 3128}], "to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}]}
    found = egress(networkPolicies={"extra": [proxy], "dnsPorts": [53, 5353]})
    for places in found.values():
        assert ("192.0.2.1/32", tcp(3128)) in places
        assert (ANYWHERE, DNS | {("UDP", 5353), ("TCP", 5353)}) in places
