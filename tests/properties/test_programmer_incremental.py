"""Lowering what changed gives what lowering everything gives, whatever rows come after whatever others."""

import string
from collections.abc import Mapping

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ebbgate_bus.contracts import codec, rows, subjects
from ebbgate_programmer.core import desired, incremental, lowering, scopes, sharded
from tests.properties import examples
from tests.properties.test_programmer_changes import (
    CIDRS,
    CIDRS6,
    PODS,
    environments,
    groups,
)

NODE = "node1"
SETS = ("s1", "s2", "s3")
UNREADABLE = st.sampled_from([b"{", b'{"v":9}', b'{"ip":7}', b"[]"])

# Few of everything, so that sets of the same content, empty ones and lost ones come up often.
routes = st.lists(
    st.builds(
        rows.Route,
        st.sampled_from([CIDRS[0], CIDRS[3], CIDRS6[0]]),
        st.sampled_from([rows.Action.STEER, rows.Action.EXCLUDE]),
        st.sampled_from(["", "uid-1", "uid-2"]),
        st.just("p"),
    ),
    max_size=2,
    unique_by=lambda route: route.cidr,
).map(tuple)
chunks = st.builds(rows.Routes, policies=st.sampled_from([("p",), ("q",)]), routes=routes).map(codec.encode)
pod_rows = st.tuples(st.sampled_from([*SETS, "lost"]), st.integers(0, 2), st.sampled_from(["a", "b"]))


def _endpoint(ip: str, drawn: tuple[str, int, str]) -> bytes:
    of_set, bucket, pod = drawn
    return codec.encode(rows.Endpoint(ip=ip, set=of_set, bucket=bucket, pod=f"default/{pod}"))


def _row(subject: str, ip: str) -> st.SearchStrategy[tuple[str, bytes]]:
    readable = pod_rows.map(lambda drawn: _endpoint(ip, drawn))
    return st.tuples(st.just(subject), st.one_of(readable, readable, readable, UNREADABLE))


own_rows = st.one_of(
    *(_row(subjects.endpoint(NODE, ip), ip) for ip in (*PODS, "10.244.1.12", "10.244.1.13")),
    # About another pod, about none, of no kind.
    _row(subjects.endpoint(NODE, "10.244.1.14"), "10.244.1.15"),
    _row(subjects.endpoint(NODE, "pod"), "pod"),
    st.just((f"{subjects.node_scope(NODE)}.endpoint", b"{}")),
    st.just((f"{subjects.node_scope(NODE)}.newer.row", b"{}")),
    st.tuples(
        st.sampled_from([subjects.egress(NODE, slot) for slot in (16, 17, 7)]),
        st.one_of(
            st.builds(
                rows.Egress,
                egress_ip=st.sampled_from(["10.168.60.100", "192.0.2.1", "?"]),
                interface=st.sampled_from(["eth0", "eth1", "eth9"]),
            ).map(codec.encode),
            UNREADABLE,
        ),
    ),
)
shared_rows = st.one_of(
    st.tuples(
        st.sampled_from([subjects.routes(name, number) for name in SETS for number in (0, 1)]),
        st.one_of(chunks, chunks, chunks, UNREADABLE),
    ),
    st.tuples(
        st.sampled_from([subjects.group(uid) for uid in ("uid-1", "uid-2")]),
        st.one_of(groups.map(codec.encode), UNREADABLE),
    ),
    st.tuples(
        st.sampled_from([subjects.peer(node) for node in ("node1", "node2")]),
        st.one_of(
            st.builds(rows.Peer, addresses=st.sampled_from([("10.0.0.1",), ("fd00::1", "10.0.0.2")])).map(
                codec.encode
            ),
            UNREADABLE,
        ),
    ),
    st.tuples(
        st.just(subjects.cluster("10.244.0.0/16")),
        st.one_of(
            st.builds(rows.Cluster, cidr=st.just("10.244.0.0/16"), source=st.sampled_from(["", "x"])).map(
                codec.encode
            ),
            UNREADABLE,
        ),
    ),
)


def _changes(of: st.SearchStrategy[tuple[str, bytes]]) -> st.SearchStrategy[dict[str, bytes]]:
    """Rows that come or change; an empty one goes."""
    gone = of.map(lambda row: (row[0], b""))
    return st.lists(st.one_of(of, of, of, gone), max_size=6).map(dict)


steps = st.tuples(_changes(shared_rows), _changes(own_rows), environments, st.booleans())
# Histories begin where there is much to change.
_STEER = rows.Route(CIDRS[0], rows.Action.STEER, "uid-1", "p")
SHARED = {
    **{
        subjects.routes(name, 0): codec.encode(rows.Routes(policies=("p",), routes=(route,)))
        for name, route in (
            ("s1", _STEER),
            ("s2", _STEER),
            ("s3", msgspec.structs.replace(_STEER, cidr="::/0")),
        )
    },
    subjects.group("uid-1"): codec.encode(
        rows.Group(policy="p", ipv4=rows.Paths(paths=(rows.Path("n", "10.0.0.2", 16),), buckets=(0, 0, 0)))
    ),
}
OWN = {
    subjects.endpoint(NODE, ip): _endpoint(ip, (SETS[number % 3], number % 2, "a"))
    for number, ip in enumerate(PODS)
}


@given(st.sampled_from([({}, {}), (SHARED, {}), (SHARED, OWN)]), st.lists(steps, min_size=1, max_size=8))
@settings(max_examples=examples.count(150), deadline=None)
def test_what_changed_lowered_is_all_lowered(
    first: tuple[dict[str, bytes], dict[str, bytes]],
    history: list[tuple[dict[str, bytes], dict[str, bytes], lowering.Environment, bool]],
) -> None:
    followed = incremental.Lowering(NODE)
    agreed = _agreed(first[0]), _agreed(first[1])
    for of_all, of_node, environment, anew in history:
        agreed = _after(agreed[0], of_all, anew=anew), _after(agreed[1], of_node, anew=anew)
        plain = lowering.lower(desired.read(NODE, *agreed), environment)
        lowered = followed.lower(agreed, environment)
        assert lowered.state == plain.state
        assert lowered.families == plain.families
        assert lowered.problems == plain.problems
        assert dict(lowered.names.pods) == plain.names.pods
        assert (lowered.names.policies, lowered.names.slots) == (plain.names.policies, plain.names.slots)


def _agreed(held: Mapping[str, bytes]) -> scopes.Agreed:
    return scopes.Agreed(sharded.Sharded.of(held), rows.Commit(epoch=1, revision=1, count=0, digest=""))


def _after(before: scopes.Agreed, changes: dict[str, bytes], *, anew: bool) -> scopes.Agreed:
    """`anew`: all of it was read again, and shares nothing with what was there."""
    if not changes and not anew:
        return before
    put = {subject: row for subject, row in changes.items() if row}
    gone = [subject for subject, row in changes.items() if not row]
    held = sharded.Sharded.of(before.rows).changed(put, gone)
    return _agreed({subject: bytes(bytearray(row)) for subject, row in held.items()} if anew else held)


keys = st.text(string.ascii_lowercase, max_size=2)
mappings = st.dictionaries(keys, st.one_of(st.none(), st.integers(0, 3)), max_size=12)


@given(mappings, mappings, st.sets(keys))
@settings(max_examples=examples.count(150), deadline=None)
def test_a_sharded_mapping_is_a_mapping(
    held: dict[str, int | None], put: dict[str, int | None], gone: set[str]
) -> None:
    before = sharded.Sharded.of(held)
    after = before.changed(put, gone)
    wanted = {key: value for key, value in held.items() if key not in gone} | put
    assert before == held
    assert after == wanted
    assert wanted == after
    assert (len(after), sorted(after)) == (len(wanted), sorted(wanted))
    assert dict(after.items()) == wanted
    assert sorted(map(str, after.values())) == sorted(map(str, wanted.values()))
    assert (after == before) == (wanted == held)
    told = {key: (new, old) for key, new, old in sharded.differences(after, before)}
    assert told == {
        key: (wanted.get(key, sharded.ABSENT), held.get(key, sharded.ABSENT))
        for key in wanted.keys() | held.keys()
        if wanted.get(key, sharded.ABSENT) != held.get(key, sharded.ABSENT)
    }
    assert told == {key: (new, old) for key, new, old in sharded.differences(wanted, held)}
    alike = sharded.Sharded.of(wanted).like(after)
    assert alike == after
    assert alike.unshared(after) == []


@given(st.sets(keys), st.sets(keys), st.sets(keys))
@settings(max_examples=examples.count(80), deadline=None)
def test_a_sharded_set_is_a_set(held: set[str], put: set[str], gone: set[str]) -> None:
    before = sharded.ShardedSet.of(held)
    after = before.changed(put, gone)
    wanted = (held - gone) | put
    assert after == wanted
    assert wanted == after
    assert (after | held, after & held, after - held) == (wanted | held, wanted & held, wanted - held)
    assert set(sharded.added(after, before)) == wanted - held == set(sharded.added(wanted, held))
    assert set(sharded.added(before, after)) == held - wanted
