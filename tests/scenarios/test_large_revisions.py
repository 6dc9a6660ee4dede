"""Revisions that don't fit in one batch: each batch safe alone, in the order of the phases."""

import msgspec

from ebbgate_bus.contracts import codec, rows, subjects
from ebbgate_bus.contracts.envelope import Outgoing, Stored
from ebbgate_resolver.core import engine
from tests.scenarios import safety
from tests.unit import resolver_objects as objects

GW = objects.node("gw", "10.0.0.1", gw="yes")
NET = objects.network("gw", "10.0.0.1/24")
NODES = ("gw", *(f"n{i}" for i in range(50)))


def _take(checker: safety.Safety, made: engine.Step, resolver: engine.Resolver) -> None:
    checker.take(made.batches)
    resolver.stored(made)
    assert checker.rows == resolver.live_rows


def _world(pods: int) -> engine.Resolver:
    nodes = [objects.node(f"n{i}", f"10.2.{i}.1") for i in range(50)]
    many = [
        objects.pod(f"p{i}", f"n{i % 50}", f"10.1.{i // 250}.{i % 250}", team=f"t{i % 7}")
        for i in range(pods)
    ]
    policies = [
        objects.policy(
            f"p{i}", f"{20 + i}.0.0.0/8", selectors=[{"podSelector": {"matchLabels": {"team": f"t{i}"}}}]
        )
        for i in range(7)
    ]
    return objects.resolver_of(GW, NET, *nodes, *many, *policies)


def _phase(message: Outgoing) -> int:
    name = subjects.parse(message.subject)
    assert name is not None
    if name.kind in ("plan.commit", "plan.writer"):
        return 0
    if name.kind == "plan.egress" and message.payload:
        return 1
    if name.node:
        return 3
    return 2 if message.payload else 4


def test_of_a_first_filling_the_commits_come_when_all_rows_are_there() -> None:
    """On a bus that lost everything nodes hold what they were told: no Commit may take away what follows."""
    resolver, checker = _world(1500), safety.Safety()
    made = resolver.step(1.0)
    assert len(made.batches) > 1
    _take(checker, made, resolver)
    names = [name for message in objects.messages_of(made) if (name := subjects.parse(message.subject))]
    kinds = [name.kind for name in names if name.kind != "plan.writer"]
    assert "plan.endpoint" not in kinds[kinds.index("plan.commit") :]
    assert kinds[kinds.index("plan.commit") :] == ["plan.commit"] * 52  # 51 nodes, and what they share
    assert resolver.step(2.0).batches == ()


def test_a_filling_that_was_interrupted_is_brought_to_its_end() -> None:
    resolver, checker = _world(1500), safety.Safety()
    first, *_ = resolver.step(1.0).batches
    checker.take([first])
    successor = _world(1500)
    successor.replace_plan([Stored(m.subject, m.payload, 1) for m in first], 2.0)
    made = successor.step(2.0)
    _take(checker, made, successor)
    assert checker.commits.keys() == {subjects.ALL_SCOPE, *map(subjects.node_scope, NODES)}


def _begun(resolver: engine.Resolver, checker: safety.Safety) -> None:
    """A plan is there, which is empty: its nodes came before all else."""
    empty = objects.resolver_of(GW, NET)
    _take(checker, empty.step(0.5), empty)
    plan = [Stored(subject, payload, 1) for subject, payload in empty.live_rows.items()]
    plan += [Stored(subjects.commit(s), codec.encode(c), 1) for s, c in checker.commits.items()]
    plan.append(Stored(subjects.WRITER, codec.encode(rows.Writer(epoch=0, revision=checker.revision)), 1))
    resolver.replace_plan(plan, 0.5)


def test_a_large_revision_is_split_in_safe_batches() -> None:
    resolver, checker = _world(1500), safety.Safety()
    _begun(resolver, checker)
    made = resolver.step(1.0)
    assert len(made.batches) > 1
    _take(checker, made, resolver)
    phases = [phase for message in objects.messages_of(made) if (phase := _phase(message))]
    assert phases == sorted(phases)
    assert set(phases) == {1, 2, 3}
    assert resolver.step(2.0).batches == ()


def test_a_large_removal_takes_sources_before_what_they_share() -> None:
    resolver, checker = _world(1500), safety.Safety()
    _take(checker, resolver.step(1.0), resolver)
    resolver.fold([objects.gone(objects.policy(f"p{i}")) for i in range(7)])
    made = resolver.step(2.0)
    assert len(made.batches) > 1
    _take(checker, made, resolver)
    phases = [phase for message in objects.messages_of(made) if (phase := _phase(message))]
    assert phases == sorted(phases)
    assert set(phases) == {3, 4}


def test_what_fits_is_one_batch_that_ends_with_the_commits_and_the_writer() -> None:
    resolver, checker = _world(10), safety.Safety()
    made = resolver.step(1.0)
    assert len(made.batches) == 1
    _take(checker, made, resolver)
    assert [message.subject for message in made.batches[0][-2:]] == [
        subjects.commit(subjects.ALL_SCOPE),
        subjects.WRITER,
    ]
    commit = checker.commits[subjects.node_scope("n1")]
    assert commit.all_revision == checker.commits[subjects.ALL_SCOPE].revision


def test_the_chunks_of_one_set_are_never_torn_apart() -> None:
    destinations = [f"20.{i // 256}.{i % 256}.0/24" for i in range(8_000)]
    resolver, checker = objects.resolver_of(GW, NET, objects.pod("a", "gw", "10.1.0.1")), safety.Safety()
    _take(checker, resolver.step(1.0), resolver)
    nodes = [objects.node(f"n{i}", f"10.2.{i // 250}.{i % 250}") for i in range(330)]
    wide = objects.policy("p", *destinations)
    resolver.fold([objects.stored(each) for each in (*nodes, wide)])
    made = resolver.step(2.0)
    holding = [batch for batch in made.batches if any(".set." in message.subject for message in batch)]
    assert len(made.batches) > 1
    assert len(holding) == 1
    _take(checker, made, resolver)
    resolver.fold([objects.stored(objects.policy("p", *destinations[:100]))])
    _take(checker, resolver.step(3.0), resolver)


def test_revisions_go_on_where_another_resolver_ended() -> None:
    resolver = objects.resolver_of(GW)
    before = rows.Writer(epoch=4, revision=41)
    plan = [
        msgspec.structs.replace(
            objects.stored(GW), subject=subjects.WRITER, payload=msgspec.json.encode(before)
        )
    ]
    resolver.replace_plan(plan, 0.0)
    checker = safety.Safety()
    _take(checker, resolver.step(1.0), resolver)
    assert checker.revision == 42
