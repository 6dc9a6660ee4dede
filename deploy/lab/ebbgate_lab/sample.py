"""The policy of the first scenario, `egress-sample`, and when it is in force."""

import copy
from typing import Any

from ebbgate_bus.contracts import reports
from ebbgate_lab import sources

NAME = "egress-sample"


def spec(**changes: Any) -> dict[str, Any]:
    """The sample policy's spec, with some fields changed."""
    original: dict[str, Any] = copy.deepcopy(sources.manifests("egress-sample.yaml")[0]["spec"])
    return original | changes


def policy(spec_: dict[str, Any]) -> sources.Manifest:
    return sources.manifests("egress-sample.yaml")[0] | {"spec": spec_}


def programmed(verdict: reports.Verdict | None, generation: int) -> bool:
    """Is version `generation` in force on every node that it concerns?"""
    if verdict is None or verdict.generation < generation:
        return False
    return any(c.type == "Programmed" and c.status == reports.Truth.TRUE for c in verdict.conditions)
