"""A scene of messages: facts, rows and reports in their places; what can't be read is named and left out."""

from ebbgate_bus.contracts import codec, reports, rows, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_cli import scene
from tests.unit import resolver_objects as objects

POD = objects.pod("a", "n", "10.1.0.1")
CLUSTER = {
    subjects.cluster("10.96.0.0/12"): rows.Cluster(cidr="10.96.0.0/12", source="setting"),
    subjects.cluster("10.1.0.0/16"): rows.Cluster(cidr="10.1.0.0/16", source="podCIDR of n"),
}


def test_messages_of_all_streams_make_one_scene() -> None:
    applied = reports.Applied(node="n")
    stored = [
        objects.stored(POD),
        objects.stored(objects.node("n", "10.0.0.1")),
        objects.gone(objects.node("gone")),
        objects.stored(applied),
        *(Stored(subject, codec.encode(row), 0) for subject, row in CLUSTER.items()),
        Stored(subjects.fact("pod", "a", "b"), b'{"v":7}', 0),
        Stored(subjects.group("u"), b"{", 0),
    ]
    made = scene.from_messages(stored)
    assert made.facts.keys() == {objects.subject_of(POD), subjects.fact("node", "n")}
    assert made.known.pods == {("default", "a"): POD}
    assert made.known.report("n") == applied
    assert made.held.rows.keys() == CLUSTER.keys()
    assert made.setting == ("10.96.0.0/12",)
    assert [trouble.split(":")[0] for trouble in made.troubles] == [
        subjects.fact("pod", "a", "b"),
        subjects.group("u"),
    ]
