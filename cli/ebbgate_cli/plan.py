"""`ebbgate plan`: which rows would these manifests give? No cluster and no bus needed."""

import pathlib
import sys
from collections.abc import Iterable, Iterator

import msgspec

from ebbgate_bus.contracts import subjects
from ebbgate_cli import world
from ebbgate_resolver.core import answers, listing
from ebbgate_watcher.core import manifests, objects

STDIN = pathlib.Path("-")
_PIPED = "standard input"


class Planned(msgspec.Struct, frozen=True):
    """`troubles`: one line each, with file, object and reason. `warnings`: what was left out of objects."""

    entries: list[listing.Entry]
    troubles: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def contents(paths: Iterable[pathlib.Path]) -> list[tuple[str, bytes]]:
    """Name and content of each manifest; `-` is standard input, which can be read once: named twice it counts
    once.
    """
    found: dict[str, bytes] = {}
    for path in paths:
        if path != STDIN:
            found |= {str(file): file.read_bytes() for file in files_of(path)}
        elif _PIPED not in found:
            # Python has no sys.stdin where it is closed. A byte more than a file may have: it is refused.
            found[_PIPED] = sys.stdin.buffer.read(manifests.MAX_FILE + 1) if sys.stdin else b""
    return list(found.items())


def files_of(path: pathlib.Path) -> list[pathlib.Path]:
    """The manifests below a directory, hidden ones left out, sorted; or the one file or pipe it is."""
    if not path.is_dir():
        return [path]
    found = (each for each in path.rglob("*") if each.suffix in manifests.SUFFIXES and each.is_file())
    return sorted(each for each in found if not _hidden(each.relative_to(path)))


def _hidden(relative: pathlib.Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


class Loaded(msgspec.Struct, frozen=True):
    """A settled world of manifests. `origins`: subject of a fact → its file. See Planned for the rest."""

    stage: world.World
    origins: dict[str, str]
    troubles: tuple[str, ...]
    warnings: tuple[str, ...]


def plan(files: Iterable[tuple[str, bytes]], node: str | None) -> Planned:
    """`files`: name and content. Without `node` each egress IP is shown, as its gateway sees it."""
    loaded = load(files)
    stage, troubles = loaded.stage, list(loaded.troubles)
    if node is not None and node not in stage.nodes:
        known = ", ".join(sorted(stage.nodes)) or "none"
        troubles.append(f"--node {node}: no manifest has this node; there are: {known}")
    warnings = [*loaded.warnings, *(_text(note) for note in stage.notes if note.event != "policy.rejected")]
    for policy, reason in sorted(stage.rejected().items()):
        origin = loaded.origins.get(subjects.fact("policy", policy))
        troubles += [f"{origin}: policy {policy}: {reason}"] if origin else []
    return Planned(stage.entries(node), tuple(troubles), tuple(warnings))


def load(files: Iterable[tuple[str, bytes]]) -> Loaded:
    """`files`: name and content."""
    stage = world.World()
    troubles: list[str] = []
    warnings: list[str] = []
    origins: dict[str, str] = {}
    for origin, seen in objects_of(files, troubles):
        if isinstance(seen, objects.Unusable):
            troubles.append(f"{origin}: {seen.kind} {seen.name}".rstrip() + f": {seen.reason}")
        elif first := origins.get(seen.subject):
            troubles.append(f"{origin}: {_named(seen)}: is in {first} already; one of them has to go")
        else:
            origins[seen.subject] = origin
            warnings += [f"{origin}: {_named(seen)}: {warning}" for warning in seen.warnings]
            stage.put(seen)
    stage.settle()
    return Loaded(stage, origins, tuple(troubles), tuple(warnings))


def objects_of(
    files: Iterable[tuple[str, bytes]], troubles: list[str]
) -> Iterator[tuple[str, objects.Observed | objects.Unusable]]:
    """Each object with its file's name; files that can't be read are added to `troubles`, and a pipe with
    nothing in it, which is what a command that failed leaves.
    """
    for name, content in files:
        file = manifests.parse(content, manifests.File())
        if file.broken:
            troubles.append(f"{name}: can't be read: {file.broken}")
        elif name == _PIPED and not file.objects:
            troubles.append(f"{name}: no object is in it; did what writes it fail?")
        for each in file.objects:
            yield name, each


def _text(note: answers.Note) -> str:
    """`pod.ignored: pod default/a, reason it has no IP address`."""
    return f"{note.event}: " + ", ".join(f"{key} {value}" for key, value in note.fields.items())


def _named(seen: objects.Observed) -> str:
    return f"{seen.kind} {seen.subject.rpartition(f'.{seen.kind}.')[2]}"
