"""What each service says of itself in the running lab: ready, and a value for every metric it declares."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ebbgate_bus.contracts import reports, subjects
from ebbgate_bus.runtime import metrics, vitals
from ebbgate_lab import lab, namespaces, observer, sample, sources
from ebbgate_programmer.io import metrics as of_programmer
from ebbgate_resolver.io import metrics as of_resolver
from ebbgate_watcher.io import metrics as of_watcher

NONE = reports.Stats(node="nobody")
CATALOGUES: dict[str, list[metrics.Family]] = {
    "watcher": of_watcher.CATALOGUE.families,
    "resolver": of_resolver.CATALOGUE.families,
    "programmer-node1": of_programmer.CATALOGUE.families,
    "programmer-node2": of_programmer.CATALOGUE.families,
}


def _counted(seen: observer.Observer) -> bool:
    """By the pod's node and by the gateway: each tells what it measured when it tells anything."""
    source = seen.get(subjects.stats("node1"), reports.Stats) or NONE
    gateway = seen.get(subjects.stats("node2"), reports.Stats) or NONE
    return bool(source.policies) and any(slot.arrived.packets for slot in gateway.slots.values())


@pytest.mark.timeout(90)
async def test_each_service_is_ready_and_measures_what_it_declares(scene: lab.Lab) -> None:
    with namespaces.entered(scene.netns("control")):
        scene.install()
        bus, watching = await scene.observe()
        generation = scene.source.apply(sources.manifests("egress-sample.yaml")[0])
        await watching.until(
            lambda seen: sample.programmed(seen.verdict(sample.NAME), generation) and seen.obeyed(*lab.NODES),
            what="the policy programmed",
        )
        scene.curl("mediabot", "/counted")
        await watching.until(_counted, what="the visit counted")
        watching.stop()
        await bus.close()
    for name, families in CATALOGUES.items():
        assert scene.health(name, "/healthz") == "ok\n", scene.log_tail()
        assert scene.health(name, "/readyz") == "ok\n", scene.log_tail()
        found = {each.name: each for each in text_string_to_metric_families(scene.health(name, "/metrics"))}
        for family in (*families, *vitals.CATALOGUE.families):
            shown = found[family.name.removesuffix("_total")]
            assert (shown.type, shown.documentation) == (family.kind, family.meaning)
            for each in shown.samples:
                assert each.labels.keys() - {"le"} == set(family.labels), family.name
    arrived = {
        each.labels["egress_ip"]: each.value
        for family in text_string_to_metric_families(scene.health("programmer-node2", "/metrics"))
        for each in family.samples
        if each.name == "ebbgate_programmer_egress_packets_total"
    }
    assert arrived["10.168.60.100"] > 0
