"""Every story and every large revision is played by the engine and by the plain one beside it."""

import pytest

from ebbgate_resolver.core import engine
from tests.properties import engine_twins


@pytest.fixture(autouse=True)
def _twins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "Resolver", engine_twins.Twins)
