"""The directory source: files of manifests, followed for changes.

Which files changed is asked of the file system (size, time and inode of each), not taken from the events:
those only say that it is time to look, and some file systems have none. Hidden files and directories are
skipped: editors and Kubernetes' own volumes (`..data`) keep unfinished things there.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import watchfiles

from ebbgate_watcher.core import inputs, manifests
from ebbgate_watcher.io import sources, tally

SETTLE_MS = 5
"""A burst of events is over when none came for so long."""
LOOK_S = 1.0
"""Look at least so often: some file systems send no events, and those between two followings are missed."""
UNFINISHED_S = 0.3
"""A file that lost objects counts when nobody wrote to it for so long; until then its old objects stay."""

GRAIN_S = 0.02
"""The time of a directory's last change may be a tick early, which is 1 to 10 ms."""

_Stamp = tuple[int, int, int]


class _Listing(msgspec.Struct, frozen=True):
    """`still`: no directory changed meanwhile, so that all of it is of one moment."""

    stamps: dict[str, _Stamp]
    still: bool


class Directory:
    """A source. `node_networks`: take NodeNetwork manifests too, for labs without programmers."""

    def __init__(self, path: Path, counts: tally.Tally, *, node_networks: bool = False) -> None:
        self._path = path
        self._counts = counts
        self._kinds = manifests.kinds(node_networks=node_networks)
        self._files: dict[str, manifests.File] = {}
        self._stamps: dict[str, _Stamp] = {}
        self._missed = False

    async def run(self, deliver: sources.Deliver) -> None:
        while not self._path.is_dir():
            await deliver([inputs.Broken(str(self._path), "no such directory yet")])
            await asyncio.sleep(UNFINISHED_S)
        while not (said := self._look(first=True)):
            await asyncio.sleep(GRAIN_S)
        await deliver([inputs.Recovered(str(self._path)), *said])
        async for _ in self._stirrings():
            if said := self._look():
                await deliver(said)

    async def _stirrings(self) -> AsyncIterator[None]:
        """Yields when it is time to look."""
        while True:
            try:
                async for _ in watchfiles.awatch(
                    self._path,
                    watch_filter=None,
                    step=SETTLE_MS,
                    debounce=20 * SETTLE_MS,
                    rust_timeout=int(LOOK_S * 1000),
                    yield_on_timeout=True,
                    recursive=True,
                ):
                    yield
                    while self._missed or self._unfinished():
                        await asyncio.sleep(GRAIN_S if self._missed else UNFINISHED_S / 3)
                        yield
            except OSError:  # the directory itself went; what it held stays in force until it is back
                await asyncio.sleep(UNFINISHED_S)
                yield

    def _look(self, *, first: bool = False) -> list[inputs.Input]:
        """All there is if anything changed, else nothing.

        A missing file is believed to be gone if the listing was still, and all that changed was there to be
        read. Where a pod's file is replaced by another's meanwhile, a listing may be too early for the new
        one and too late for the old one, and the address that they share would be nobody's. So the first
        listing, by which facts of before may go, has to be still; until it is there is nothing.
        """
        if not self._path.is_dir():
            return [inputs.Broken(str(self._path), "the directory is gone; what it held stays in force")]
        seen_ns = time.time_ns()
        listing = self._list()
        stamps = listing.stamps
        changed = [name for name, stamp in stamps.items() if self._stamps.get(name) != stamp]
        vanished = [name for name in changed if not self._read(name, stamps[name])]
        still = listing.still and not vanished
        if first and not still:
            return []
        missing = [name for name in self._files if name not in stamps]
        self._missed = bool(vanished or missing) and not still
        gone = missing if still else []
        for name in gone:
            del self._files[name]
            self._stamps.pop(name, None)
        is_news = first or gone or len(changed) > len(vanished)
        said = manifests.list_all(self._files, self._kinds, seen_ns) if is_news else []
        self._counts.normalised(seen_ns)
        return [inputs.Recovered(str(self._path)), *map(inputs.Recovered, gone), *said] if said else []

    def _list(self) -> _Listing:
        quiet_since_ns = time.time_ns() - int(GRAIN_S * 1e9)
        folders: list[str] = []
        stamps: dict[str, _Stamp] = {}
        for parent, inner, names in os.walk(self._path, followlinks=True):
            folders.append(parent)
            inner[:] = sorted(folder for folder in inner if not folder.startswith("."))
            for name in names:
                if name.endswith(manifests.SUFFIXES) and not name.startswith("."):
                    path = Path(parent, name)
                    if stat := _stat(path):
                        stamp = stat.st_mtime_ns, stat.st_size, stat.st_ino
                        stamps[str(path.relative_to(self._path))] = stamp
        still = all((stat := _stat(folder)) and stat.st_mtime_ns < quiet_since_ns for folder in folders)
        return _Listing(stamps, still)

    def _read(self, name: str, stamp: _Stamp) -> bool:
        """False: it is gone since it was listed, and what it held stays in force."""
        last = self._files.get(name, manifests.File())
        try:
            with (self._path / name).open("rb") as opened:
                file = manifests.parse(opened.read(manifests.MAX_FILE + 1), last)
        except FileNotFoundError:
            return False
        except OSError as error:
            file = manifests.File(last.objects, str(error))
        if manifests.lost(file, last) and time.time_ns() - stamp[0] < UNFINISHED_S * 1e9:
            self._stamps.pop(name, None)  # read again; `_unfinished` sees to it
            return True
        self._files[name], self._stamps[name] = file, stamp
        return True

    def _unfinished(self) -> bool:
        return any(name not in self._stamps for name in self._files)


def _stat(path: str | Path) -> os.stat_result | None:
    """None if it is gone since it was listed, or a link to nowhere."""
    try:
        return os.stat(path)
    except OSError:
        return None
