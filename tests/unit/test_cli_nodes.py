"""`ebbgate nodes`: what is said of a node besides what it reports."""

from ebbgate_bus.contracts import codec, reports, subjects
from ebbgate_cli import nodes
from tests.unit import resolver_objects as objects


def test_nodes_with_one_address_say_so_before_what_they_report() -> None:
    trouble = reports.Applied(node="gw", problems=(reports.Problem(reason="map full"),))
    made = [objects.node("gw", "10.0.0.1"), objects.node("twin", "10.0.0.1"), objects.node("src", "10.0.0.2")]
    payloads = {objects.subject_of(each): codec.encode(each) for each in (*made, trouble)}
    states = nodes.states(payloads | {subjects.WRITER: b"{"})
    assert [state.problems for state in states] == [
        ("twin has its address too: neither can be a gateway", "map full"),
        (),
        ("gw has its address too: neither can be a gateway",),
    ]
    assert nodes.cells(states[1])[-1] == "none"
