"""A directory that changes while it is looked at: the file system is real, only the moment is chosen."""

import os
import pathlib
from collections.abc import Callable, Sequence

import pytest

from ebbgate_watcher.core import inputs
from ebbgate_watcher.io import directory, tally

POD = """
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: shop, uid: u-1}
spec: {nodeName: node1}
status: {phase: Running, podIP: 10.0.0.1}
"""


class Disturbed(directory.Directory):
    """`between` happens once, after the next listing and before what was listed is read."""

    between: Callable[[], object] | None = None

    def _list(self) -> directory._Listing:
        listing = super()._list()
        if self.between:
            self.between()
            self.between = None
        return listing


class Enough(Exception):
    """All that was waited for was told."""


async def test_a_file_that_went_before_it_was_read_takes_nobody_else_with_it(tmp_path: pathlib.Path) -> None:
    (tmp_path / "old.yaml").write_text(POD % "old")
    watched = Disturbed(tmp_path, tally.Tally())
    told: list[set[str]] = []

    def replace() -> None:
        (tmp_path / "second.yaml").rename(tmp_path / "third.yaml")

    async def deliver(said: Sequence[inputs.Input]) -> None:
        listed = [each for each in said if isinstance(each, inputs.Listed)]
        told.append({seen.subject.split(".")[-1] for each in listed for seen in each.objects})
        if told[-1] == {"old"}:
            (tmp_path / "second.yaml").write_text(POD % "new")
            (tmp_path / "old.yaml").unlink()
            os.utime(tmp_path, (1, 1))  # the next listing takes it for still
            watched.between = replace
        if "new" in told[-1]:
            raise Enough

    with pytest.raises(Enough):
        await watched.run(deliver)
    assert told == [{"old"}, {"new"}]
