"""What an operator sees of a policy with kubectl alone, while pods visit nginx: that it works, that its
gateway is lost, and that it works again.
"""

import pytest

from .visitors import EGRESS, GATEWAY, Visitors

pytestmark = pytest.mark.timeout(180)
LABEL = "node.kubernetes.io/name"


def wait(visitors: Visitors, condition: str) -> None:
    visitors.kubectl.call("wait", f"cegp/{visitors.name}", f"--for=condition={condition}", "--timeout=30s")


def events(visitors: Visitors) -> str:
    told = visitors.kubectl.call("describe", "cegp", visitors.name)
    return told[told.index("Events:") :]


async def test_a_gateway_lost_and_found(visitors: Visitors) -> None:
    pods = await visitors.begin(visitors.workload("Deployment", 2), 2)
    wait(visitors, "Programmed")
    line = visitors.kubectl.call("get", "cegp", visitors.name, "--no-headers")
    nodes = len({GATEWAY, *(pod.node for pod in pods)})
    assert line.split()[:6] == [visitors.name, GATEWAY, EGRESS, "2", f"{nodes}/{nodes}", "True"], line
    visitors.kubectl.call("label", "node", GATEWAY, f"{LABEL}-")
    try:
        wait(visitors, "GatewayFound=False")
        wait(visitors, "Ready=False")
    finally:
        visitors.kubectl.call("label", "node", GATEWAY, f"{LABEL}={GATEWAY}")
    wait(visitors, "Ready")
    await visitors.until_seen(*pods)
    table = events(visitors)
    for told in ("Normal   GatewayFound", "Normal   Programmed", "Warning  GatewayLost"):
        assert told in table, table
    visitors.assert_seen_as_egress_only()
