"""IPv6 from the manifest to the kernel: one policy for both families, each with its own egress IP."""

import pytest

from ebbgate_bus.contracts import rows, subjects
from ebbgate_lab import lab, namespaces, sample, sources, topology

POD, EGRESS_IP, NODE_IP = "10.244.1.10", "10.168.60.100", "10.168.60.11"
FIRST_OF_ETH0 = topology.twin("10.168.60.12")
"""An egressIP is of one family; the other gets the first address of the same interface."""
CLUSTER = "fd00:10:244::/48"


def _dual(manifest: sources.Manifest) -> sources.Manifest:
    """A pod with an address of each family."""
    ips = [{"ip": POD}, {"ip": topology.twin(POD)}]
    return manifest | {"status": manifest["status"] | {"podIPs": ips}}


@pytest.mark.timeout(60)
async def test_a_policy_of_both_families_is_obeyed_in_both(scene: lab.Lab) -> None:
    both = sample.spec(destinationCIDRs=["0.0.0.0/0", "::/0"], excludedCIDRs=[CLUSTER])
    with namespaces.entered(scene.netns("control")):
        scene.install()
        bus, watching = await scene.observe()
        scene.source.apply(_dual(sources.manifests("pods.yaml")[1]))
        generation = scene.source.apply(sample.policy(both))
        await watching.until(
            lambda seen: (
                sample.programmed(seen.verdict(sample.NAME), generation)
                and seen.get(subjects.endpoint("node1", topology.twin(POD)), rows.Endpoint)
                and seen.obeyed(*lab.NODES)
            ),
            what="the policy programmed for both addresses of the pod",
        )
        for ipv6, seen_as in ((False, EGRESS_IP), (True, FIRST_OF_ETH0)):
            path = f"/{ipv6}"
            scene.curl("mediabot", path, ipv6=ipv6)
            visit = scene.web.visit_to(path)
            assert visit is not None, scene.log_tail()
            assert visit.source == seen_as
        scene.curl("xwing", "/other", ipv6=True)
        other = scene.web.visit_to("/other")
        assert other is not None
        assert other.source == topology.twin(NODE_IP)
        watching.stop()
        await bus.close()
    assert scene.topology.leaks() == 0
