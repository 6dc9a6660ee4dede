"""Stages of a pass, as traces and metrics show them."""

import typing

from ebbgate_programmer.core import changes, stages
from ebbgate_programmer.core.stages import Span, Stage


def test_every_change_belongs_to_a_stage() -> None:
    assert stages._STAGES.keys() == set(typing.get_args(changes.Change))
    assert stages.of(changes.ForgetSlots((16,))) == Stage.CONNTRACK


def test_neighbours_of_one_stage_are_one_span() -> None:
    spans = [
        Span(Stage.BPF, 0, 1_000_000),
        Span(Stage.BPF, 2_000_000, 3_000_000),
        Span(Stage.NFT, 3_000_000, 7_000_000),
        Span(Stage.BPF, 7_000_000, 7_500_000),
    ]
    merged = stages.merged(spans)
    assert merged == (
        Span(Stage.BPF, 0, 3_000_000),
        Span(Stage.NFT, 3_000_000, 7_000_000),
        Span(Stage.BPF, 7_000_000, 7_500_000),
    )
    assert stages.took_ms(merged) == {"bpf": 3.5, "nft": 4.0}


def test_a_pass_has_a_bounded_number_of_spans() -> None:
    spans = [Span((Stage.BPF, Stage.NFT)[n % 2], n, n + 1) for n in range(3 * stages.MAX_SPANS)]
    merged = stages.merged(spans)
    assert len(merged) == stages.MAX_SPANS
    assert (merged[0].began_ns, merged[-1].ended_ns) == (0, 3 * stages.MAX_SPANS)
