"""`ebbgate status` without a bus: each part in a line, what is wrong, and what to do about it."""

import msgspec
import pytest

from ebbgate_bus.contracts import codec, facts, reports, rows, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.contracts.reports import Beat, Condition, Truth, Verdict
from ebbgate_cli import lags, nodes, overview
from ebbgate_cli.live import STORED_AT

READY = tuple(
    Condition(type=type_, status=Truth.TRUE, reason="Ready")
    for type_ in ("Accepted", "GatewayFound", "EgressIPReady", "Programmed")
)
NO_GATEWAY = (READY[0], Condition(type="GatewayFound", status=Truth.FALSE, reason="NoMatchingNode"))
SERVER = overview.Server(
    "nats://127.0.0.1:4222", "2.15.1", (overview.Stream("FACT", 1234, 5_600), overview.Stream("PLAN", 7, 12))
)
PAYLOADS = {
    subjects.fact("node", "n1"): codec.encode(facts.Node(name="n1", internal_ips=("10.0.0.1",))),
    subjects.fact("policy", "p"): codec.encode(facts.Policy(name="p", uid="1")),
    subjects.commit(subjects.ALL_SCOPE): codec.encode(rows.Commit(epoch=1, revision=3, count=1, digest="0")),
    subjects.status("n1"): codec.encode(
        reports.Applied(node="n1", all_revision=3, slots={"16": "192.0.2.1"})
    ),
    subjects.verdict("p"): codec.encode(Verdict(policy="p", uid="1", pods=2, conditions=READY)),
}
ALL = tuple(
    Beat(service=service, name=name, version="1.0")
    for service, name in (("watcher", "w1"), ("watcher", "w2"), ("resolver", "r"), ("programmer", "n1"))
)


def seen(beats: tuple[Beat, ...] = ALL, server: overview.Server = SERVER, **changed: object) -> overview.Seen:
    states, verdicts = overview.known(PAYLOADS)
    found = overview.Seen(server, beats, states, verdicts)
    return msgspec.structs.replace(found, **changed)


def test_where_all_is_well_nothing_is_to_do() -> None:
    found = overview.of(seen())
    assert found.troubles == ()
    assert found.versions == ("1.0",)
    assert {part.name: part.says for part in found.parts} == {
        "bus": "nats-server 2.15.1 at nats://127.0.0.1:4222; FACT 1,234 (6 kB), PLAN 7 (12 B)",
        "watcher": "2 alive: w1, w2",
        "resolver": "1 alive: r",
        "programmer": "1 alive on 1 nodes; 1 up to date",
        "lag": "nobody is behind",
        "policies": "1 of 1 ready; pods: 2",
        "egress IPs": "192.0.2.1",
    }


def told(found: overview.Seen) -> list[str]:
    return [trouble.what for trouble in overview.of(found).troubles]


@pytest.mark.parametrize("service", overview.SERVICES)
def test_a_silent_service_is_missed(service: str) -> None:
    assert told(seen(tuple(beat for beat in ALL if beat.service != service))) == [f"no {service} is alive"]


def test_an_usher_that_is_not_heard_is_no_trouble() -> None:
    usher = Beat(service="usher", name="u", version="1.0")

    def says(found: overview.Seen) -> str | None:
        return {part.name: part.says for part in overview.of(found).parts}.get("usher")

    assert (says(seen()), told(seen())) == (None, [])
    unheard = seen(by_token=True)  # an older one let us in: it doesn't beat
    assert (says(unheard), told(unheard)) == ("none heard (older versions don't beat)", [])
    for by_token in (True, False):
        found = seen((*ALL, usher), by_token=by_token)
        assert (says(found), told(found)) == ("1 alive: u", [])


def test_versions_that_differ_are_told() -> None:
    older = Beat(service="resolver", name="s")
    assert told(seen((*ALL, older))) == ["several versions are running: 1.0, unknown"]


def test_a_bus_without_streams_is_all_there_is_to_say() -> None:
    server = overview.Server("nats://127.0.0.1:4222", "2.15.1", (), ("FACT", "PLAN"))
    assert told(seen((), server, nodes=(), verdicts=())) == ["the bus has no FACT, PLAN"]


def test_what_is_wrong_with_a_node_is_told() -> None:
    (state,) = seen().nodes
    for changed, beats, expected in (
        ({"state": "NoProgrammer"}, ALL, ["n1: no programmer has ever reported"]),
        ({}, ALL[:3], ["n1: its programmer is silent"]),
        ({"problems": ("map full",)}, ALL, ["n1: map full"]),
    ):
        other = msgspec.structs.replace(state, **changed)
        assert told(seen(beats, nodes=(other,))) == expected


SLOW = lags.Lag(who="resolver r", for_s=12)


@pytest.mark.parametrize(
    ("late", "said"),
    [
        (SLOW, "resolver r: behind for 12 s"),
        (msgspec.structs.replace(SLOW, starting=True), "resolver r: not ready yet, 12 s after it started"),
        (
            lags.Lag(who="n1", for_s=12, scopes=("all", "node")),
            "n1: lacks the last Commit of all and node, for 12 s at least",
        ),
    ],
)
def test_who_is_behind_is_told_and_is_a_trouble_if_it_stays(late: lags.Lag, said: str) -> None:
    for for_s, expected in ((late.for_s, [said]), (overview.STAYS_S - 0.1, [])):
        found = overview.of(seen(behind=(msgspec.structs.replace(late, for_s=for_s),)))
        assert [trouble.what for trouble in found.troubles] == expected
        text = said if expected else said.replace("12 s", "10 s")
        assert text == {part.name: part.says for part in found.parts}["lag"]
        assert found.behind[0].for_s == for_s


def test_of_services_counts_what_their_beats_say() -> None:
    def beat(**fields: object) -> Beat:
        payload = msgspec.json.encode({"service": "resolver", "name": "r", "version": "1.0"} | fields)
        return codec.decode_as(Beat, subjects.beat("resolver", "r"), payload)

    older = beat(read={"ebbgate.v1.fact.>": 1})
    quick = (beat(behind_s=0), beat(behind_s=0.9), beat(behind_s=-5))
    slow, begun = beat(behind_s=12), beat(behind_s=12, starting=True)
    assert list(lags.of_services([older, *quick, slow, begun])) == [
        SLOW,
        msgspec.structs.replace(SLOW, starting=True),
    ]


def test_a_node_is_behind_since_the_first_commit_that_it_lacks() -> None:
    (state,) = seen().nodes
    late = msgspec.structs.replace(state, state=nodes.BEHIND, revision=(3, 7), wanted=(1_795_632_627_929, 7))

    def commit(scope: str, revision: int, second: int) -> Stored:
        said = rows.Commit(epoch=1, revision=revision, count=0, digest="0")
        stamp = {STORED_AT: f"1970-01-01T00:00:{second}.500000123Z"}
        return Stored(subjects.commit(scope), codec.encode(said), 1, stamp)

    own, other = subjects.node_scope("n1"), subjects.node_scope("n2")
    said = [
        *(commit(subjects.ALL_SCOPE, revision, 10 + revision) for revision in (2, 3, 5, 9)),
        *(commit(own, 7, 11), commit(other, 8, 12), Stored(subjects.commit(own), b"{", 1, {})),
    ]
    assert lags.of_node(late, said, 100.0) == lags.Lag(who="n1", for_s=84.5, scopes=("all",))
    assert lags.of_node(late, said[:2], 100.0).for_s == 0.0
    both = msgspec.structs.replace(late, wanted=(9, 8))
    assert lags.of_node(both, said, 100.0).scopes == ("all", "node")


def test_policies_that_are_not_ready_are_told_and_many_are_counted() -> None:
    verdicts = tuple(Verdict(policy=f"p{n}", uid=str(n), conditions=NO_GATEWAY) for n in range(5))
    found = overview.of(seen(verdicts=verdicts))
    assert [trouble.what for trouble in found.troubles] == [
        *(f"policy p{n}: NoMatchingNode" for n in range(3)),
        "and 2 more troubles of policies",
    ]
    assert found.troubles[0].to_do == "ebbgate policies p0"
    assert found.troubles[-1].to_do == "ebbgate policies"


def test_sizes_are_for_people() -> None:
    huge = overview.Server(
        "u", "v", (overview.Stream("PLAN", 1, 2_500_000_000), overview.Stream("X", 1, 3_000_000))
    )
    assert "PLAN 1 (2.5 GB), X 1 (3 MB)" in overview.of(seen(server=huge)).parts[0].says
    ips = tuple(f"192.0.2.{n}" for n in range(5))
    (state,) = seen().nodes
    many = msgspec.structs.replace(state, egress_ips=ips)
    assert overview.of(seen(nodes=(many,))).parts[-1].says == "192.0.2.0, 192.0.2.1, 192.0.2.2 and 2 more"
