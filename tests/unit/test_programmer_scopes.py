"""A scope is believed at a Commit that agrees with its rows, and stays believed until the next that does."""

from ebbgate_bus.contracts import codec, digests, rows, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_programmer.core import scopes

SCOPE = subjects.node_scope("node1")
ROW = rows.Egress(egress_ip="10.168.60.100", interface="eth0")
KEY, OTHER = subjects.egress("node1", 16), subjects.egress("node1", 17)
COMMIT = subjects.commit(SCOPE)
BYTES = codec.encode(ROW)


def _commit(held: dict[str, bytes], *, sequence: int, revision: int = 1, all_revision: int = 0) -> Stored:
    commit = rows.Commit(
        epoch=1,
        revision=revision,
        count=len(held),
        digest=digests.text(digests.of_rows(held)),
        all_revision=all_revision,
    )
    return Stored(COMMIT, codec.encode(commit), sequence, {"Ebbgate-Seen": "1"})


def _fold(*messages: Stored) -> scopes.Scope:
    return scopes.fold(scopes.Scope(SCOPE), messages)


def test_rows_without_a_commit_are_not_believed() -> None:
    assert _fold(Stored(KEY, BYTES, 1)).agreed is None


def test_rows_are_believed_at_a_commit_that_agrees() -> None:
    scope = _fold(Stored(KEY, BYTES, 1), _commit({KEY: BYTES}, sequence=2))
    assert scope.agreed is not None
    assert scope.agreed.rows == {KEY: BYTES}
    assert not scope.disagrees


def test_order_of_arrival_does_not_matter_but_sequence_does() -> None:
    scope = _fold(_commit({KEY: BYTES}, sequence=3), Stored(KEY, BYTES, 2), Stored(KEY, b"old", 1))
    assert scope.agreed is not None
    assert scope.agreed.rows == {KEY: BYTES}


def test_a_commit_that_disagrees_leaves_what_agreed_last() -> None:
    scope = _fold(Stored(KEY, BYTES, 1), _commit({KEY: BYTES}, sequence=2))
    scope = scopes.fold(scope, [_commit({}, sequence=4, revision=2)])
    assert scope.disagrees
    assert scope.agreed is not None
    assert scope.agreed.commit.revision == 1


def test_rows_after_a_commit_wait_for_the_next() -> None:
    scope = _fold(Stored(KEY, BYTES, 1), _commit({KEY: BYTES}, sequence=2), Stored(OTHER, BYTES, 3))
    assert scope.agreed is not None
    assert OTHER not in scope.agreed.rows


def test_a_tombstone_takes_a_row_out() -> None:
    scope = _fold(Stored(KEY, BYTES, 1), Stored(KEY, b"", 2), _commit({}, sequence=3))
    assert scope.agreed is not None
    assert scope.agreed.rows == {}


def test_an_older_message_of_a_subject_is_ignored_in_a_later_batch() -> None:
    scope = _fold(Stored(KEY, BYTES, 5), _commit({KEY: BYTES}, sequence=6))
    scope = scopes.fold(scope, [Stored(KEY, b"", 4)])
    assert scope.rows == {KEY: BYTES}


def test_a_batch_that_replaces_forgets_rows_but_not_what_agreed() -> None:
    scope = _fold(Stored(KEY, BYTES, 1), _commit({KEY: BYTES}, sequence=2))
    scope = scopes.fold(scope, [], replaced=True)
    assert scope.rows == {}
    assert scope.agreed is not None


def test_a_commit_that_does_not_decode_is_a_problem_and_goes_with_the_next_good_one() -> None:
    scope = _fold(Stored(COMMIT, b'{"v":2}', 1))
    assert scope.problem is not None
    assert "major version 2" in scope.problem.reason
    assert scopes.fold(scope, [_commit({}, sequence=2)]).problem is None


def test_a_removed_commit_changes_nothing() -> None:
    scope = _fold(_commit({}, sequence=1))
    assert scopes.fold(scope, [Stored(COMMIT, b"", 2)]).agreed == scope.agreed


def test_a_nodes_rows_wait_for_the_shared_revision_they_need() -> None:
    own = _fold(_commit({}, sequence=9, all_revision=5))
    for revision, ready in ((4, False), (5, True), (6, True)):
        commit = rows.Commit(epoch=1, revision=revision, count=0, digest=digests.text(0))
        message = Stored(subjects.commit(subjects.ALL_SCOPE), codec.encode(commit), 1)
        shared = scopes.fold(scopes.Scope(subjects.ALL_SCOPE), [message])
        assert (scopes.pair(shared, own) is not None) == ready


def test_a_scope_without_commit_is_not_an_empty_one() -> None:
    own = _fold(_commit({}, sequence=1))
    assert scopes.pair(scopes.Scope(subjects.ALL_SCOPE), own) is None
    assert scopes.pair(own, scopes.Scope(SCOPE)) is None
