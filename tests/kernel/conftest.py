"""Fixtures of the kernel tests: nothing is skipped, a missing part fails the run."""

import pathlib
from collections.abc import Iterator

import pytest

from ebbgate_lab import topology
from tests.kernel import rig as rigs


@pytest.fixture(scope="session")
def _machine() -> None:
    assert not topology.missing_tools(), f"missing: {topology.missing_tools()}"
    rigs.ensure_bpffs()
    rigs.ensure_object()


@pytest.fixture
def rig(_machine: None, tmp_path: pathlib.Path) -> Iterator[rigs.Rig]:
    """Namespaces, nginx and nats-server; programmers are the test's to start."""
    made = rigs.Rig(topology.Topology(rigs.prefix("k")), tmp_path)
    try:
        made.remove_pins()
        made.lab.make()
        made.start_nginx()
        made.start_nats()
        yield made
    finally:
        made.stop()
