"""How much the resolver holds, and how far nodes are with its plan."""

from ebbgate_bus.contracts import codec, facts, reports, rows, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_resolver.core import engine


def stored(subject: str, message: facts.Message) -> Stored:
    return Stored(subject, codec.encode(message), 1)


def resolver(*applied: reports.Applied) -> engine.Resolver:
    """Three nodes, and a plan of one row for node1; it and the shared scope are of revision 2."""
    found = engine.Resolver()
    names = ("node1", "node2", "node3")
    found.fold([stored(subjects.fact("node", name), facts.Node(name=name)) for name in names])
    found.fold([stored(subjects.status(each.node), each) for each in applied])
    commits = {subjects.ALL_SCOPE: 2, subjects.node_scope("node1"): 2, subjects.node_scope("node2"): 1}
    plan = [
        stored(subjects.commit(scope), rows.Commit(epoch=1, revision=revision, count=0, digest=""))
        for scope, revision in commits.items()
    ]
    row = rows.Endpoint(ip="10.0.0.1", set="s", bucket=0, pod="default/pod")
    found.replace_plan([*plan, stored(subjects.endpoint("node1", "10.0.0.1"), row)], 0.0)
    return found


def test_nodes_are_counted_by_how_far_they_are_with_the_plan() -> None:
    there = reports.Applied(node="node1", all_revision=2, node_revision=2)
    late = reports.Applied(node="node2", all_revision=1, node_revision=1)
    census = resolver(there, late).census
    assert census.nodes == {"programmed": 1, "behind": 1, "silent": 1}
    assert census.rows == {"all": 0, "node": 1}
    assert (census.objects["node"], census.objects["pod"], census.revision) == (3, 0, 2)


def test_a_verdict_that_nobody_can_read_is_left_out() -> None:
    found = resolver()
    verdict = reports.Verdict(policy="good", uid="p1")
    found.fold([stored(subjects.verdict("good"), verdict), Stored(subjects.verdict("bad"), b"{", 2)])
    assert list(found.verdicts) == [verdict]
