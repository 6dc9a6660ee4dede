"""Where a message stands in its trace, as headers say it."""

import pytest

from ebbgate_bus.contracts import trace
from ebbgate_bus.contracts.envelope import TRACEPARENT

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize("sampled", [True, False])
def test_a_context_survives_its_header(sampled: bool) -> None:
    context = trace.Context(TRACE, SPAN, sampled)
    assert trace.of(trace.headers(context)) == context
    assert trace.text(context) == f"00-{TRACE}-{SPAN}-0{int(sampled)}"


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", True),
        (f"00-{TRACE}-{SPAN}-02", False),
    ],
)
def test_later_versions_and_flags_are_read(header: str, sampled: bool) -> None:
    assert trace.parse(header) == trace.Context(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-zz",
    ],
)
def test_what_is_no_context_is_none(header: str) -> None:
    assert trace.of({TRACEPARENT: header}) is None


def test_the_work_before_a_message_survives_its_header() -> None:
    context = trace.Context(TRACE, SPAN)
    work = trace.Work(SPAN, 17, {"fold": 0.25, "resolve": 1.5}, (f"00-{TRACE}-{SPAN}-00",))
    assert trace.work(trace.headers(context, work)) == work
    assert trace.work(trace.headers(context)) is None
    assert trace.work({trace.WORK: "{"}) is None
    assert trace.work({trace.WORK: '{"began_ns":"late"}'}) is None
