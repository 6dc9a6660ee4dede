"""Changes applied to what is held give what is wanted; the digest follows them, one by one or as a whole."""

import hypothesis
from hypothesis import strategies as st

from ebbgate_bus.contracts import digests, subjects
from ebbgate_resolver.core.plan import diff, held

SUBJECTS = st.sampled_from([subjects.peer(f"n{i}") for i in range(6)])
ROWS = st.dictionaries(SUBJECTS, st.sampled_from([b"1", b"2", b"3"]))


@hypothesis.given(ROWS, ROWS)
def test_changes_lead_from_held_to_wanted_and_nothing_from_equal_to_equal(
    wanted: dict[str, bytes], before: dict[str, bytes]
) -> None:
    plan = held.Held()
    for subject, payload in before.items():
        plan.put(subject, payload)
    changes = diff.changes(wanted, plan.rows)
    for change in changes:
        plan.put(change.subject, change.payload)
    assert plan.rows == wanted
    assert diff.changes(wanted, plan.rows) == ()
    total = plan.totals.get(subjects.ALL_SCOPE, held.Total())
    assert (total.count, total.digest) == (len(wanted), digests.of_rows(wanted))
    assert list(changes) == sorted(changes)
