"""Two gateways for one policy: each pod leaves by the one of its bucket, also where that is its own node."""

import pytest

from ebbgate_bus.contracts import digests, rows, streams, subjects
from ebbgate_cli import live
from ebbgate_lab import lab, namespaces, sample, sources
from ebbgate_resolver.core import listing

GATEWAYS = [
    {"nodeSelector": {"matchLabels": {"node.kubernetes.io/name": "node1"}}, "egressIP": "10.168.60.11"},
    {"nodeSelector": {"matchLabels": {"node.kubernetes.io/name": "node2"}}, "egressIP": "10.168.60.100"},
]
UIDS = [f"00000000-0000-0000-0000-{number:012}" for number in range(6)]


def mediabot(uid: str) -> sources.Manifest:
    pod = sources.manifests("pods.yaml")[1]
    return pod | {"metadata": pod["metadata"] | {"uid": uid}}


@pytest.mark.timeout(60)
async def test_a_pod_is_seen_with_the_egress_ip_that_is_listed_for_it(scene: lab.Lab) -> None:
    seen_as = set()
    with namespaces.entered(scene.netns("control")):
        scene.install()
        bus, watching = await scene.observe()
        generation = scene.source.apply(sample.policy(sample.spec(egressGateways=GATEWAYS)))
        await watching.until(
            lambda seen: sample.programmed(seen.verdict(sample.NAME), generation),
            what="the policy programmed",
        )
        for number, uid in enumerate(UIDS):
            scene.source.apply(mediabot(uid))
            bucket = digests.bucket(uid, rows.BUCKETS)
            await watching.until(
                lambda seen, bucket=bucket: (
                    isinstance(row := seen.get(ENDPOINT, rows.Endpoint), rows.Endpoint)
                    and row.bucket == bucket
                    and seen.obeyed(*lab.NODES)
                ),
                what=f"mediabot in bucket {bucket}",
            )
            stored = await live.read(bus, streams.PLAN, f"{subjects.ROOT}.plan.>")
            (entry,) = listing.entries({m.subject: m.payload for m in stored if m.payload})
            scene.curl("mediabot", f"/{number}")
            visit = scene.web.visit_to(f"/{number}")
            assert visit is not None
            assert visit.source == entry.egress_ip
            seen_as.add(visit.source)
        watching.stop()
        await bus.close()
    assert seen_as == {"10.168.60.11", "10.168.60.100"}
    assert scene.topology.leaks() == 0


ENDPOINT = subjects.endpoint("node1", "10.244.1.10")
