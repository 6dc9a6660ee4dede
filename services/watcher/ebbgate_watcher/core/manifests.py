"""A directory of manifests → the complete list of its objects. The directory source's leg *normalise*.

A directory has no versions, no uids and no deletions; it only is what it is now. So each change of a file
is answered with all that the directory holds, and the mirror finds the difference. What a file said last
stays in force while it can't be read: a typing mistake must not take away the policies of a whole file.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import yaml

from ebbgate_bus.contracts import facts
from ebbgate_watcher.core import inputs, objects

SUFFIXES = (".yaml", ".yml", ".json")
MAX_FILE = 16 * 1024 * 1024
"""Bytes; a bigger file is refused: it is no manifest written by anybody."""

Object = objects.Observed | objects.Unusable


class File(msgspec.Struct, frozen=True):
    """What one file holds, or why it can't be read. A broken one keeps the objects of its last good state."""

    objects: tuple[Object, ...] = ()
    broken: str = ""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as Kubernetes reads it: JSON with comments, so no dates."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse(content: bytes, last: File) -> File:
    """`last`: the same file before. YAML, so JSON too; several documents; kind List is opened."""
    if len(content) > MAX_FILE:
        return File(last.objects, f"larger than {MAX_FILE} bytes")
    try:
        documents = list(yaml.load_all(content, Loader=_Loader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return File(last.objects, " ".join(str(error).split()) or repr(error))
    return File(tuple(objects.normalise(each) for document in documents for each in _open(document)))


def lost(file: File, before: File) -> bool:
    """Whether something of `before` is missing in `file`: perhaps only because it is being written."""
    return not file.broken and not _keys(before) <= _keys(file)


def list_all(files: Mapping[str, File], kinds: Sequence[str], seen_ns: int) -> list[inputs.Input]:
    """All of the directory, as one Listed per kind, and what is wrong with which file.

    The same object in two files: the first by file name wins, so that the outcome doesn't depend on the order
    in which they were written.
    """
    said: list[inputs.Input] = []
    chosen: dict[str, dict[str, Object]] = {kind: {} for kind in kinds}
    owners: dict[tuple[str, str], str] = {}
    for path, file in sorted(files.items()):
        troubles = [file.broken] if file.broken else []
        for each in file.objects:
            key = _key(each)
            if (owner := owners.setdefault(key, path)) != path or key[1] in chosen.get(each.kind, ()):
                troubles.append(f"{each.kind} {key[1]} is in {owner} already")
            elif each.kind in chosen:
                chosen[each.kind][key[1]] = each
            elif isinstance(each, objects.Unusable):
                troubles.append(f"{each.kind} {each.name}".strip() + f": {each.reason}")
        said.append(inputs.Broken(path, "; ".join(troubles)) if troubles else inputs.Recovered(path))
    return said + [inputs.Listed(kind, tuple(found.values()), seen_ns) for kind, found in chosen.items()]


def kinds(*, node_networks: bool) -> tuple[str, ...]:
    """NodeNetwork manifests stand in for programmers; where there are some, theirs is the truth."""
    return (*facts.KINDS, "nodenetwork") if node_networks else facts.KINDS


def _open(document: Any) -> Iterator[Any]:
    if isinstance(document, dict) and document.get("kind") == "List":
        for item in document.get("items") or ():
            yield from _open(item)
    elif document is not None:  # `---` at the end of a file
        yield document


def _key(each: Object) -> tuple[str, str]:
    named = each.subject or (each.name if isinstance(each, objects.Unusable) else "")
    return each.kind, named.partition(".fact.")[2] or named


def _keys(file: File) -> set[tuple[str, str]]:
    return {_key(each) for each in file.objects}
