"""Where the lab's Kubernetes objects live: a directory of manifests, or a real kube-apiserver."""

import pathlib
from typing import Any, Protocol

import yaml

from ebbgate_lab import processes

MANIFESTS = pathlib.Path(__file__).parents[1] / "manifests"

Manifest = dict[str, Any]


class Source(Protocol):
    """Objects are created or replaced whole. `apply` answers with the object's generation."""

    @property
    def servers(self) -> tuple[processes.Process, ...]: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def apply(self, manifest: Manifest) -> int: ...
    def delete(self, manifest: Manifest) -> None: ...
    def watcher_arguments(self) -> list[str]: ...


class Directory:
    """One file per object; what the API server would count, the generation, is counted here."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._generations: dict[pathlib.Path, int] = {}

    @property
    def servers(self) -> tuple[processes.Process, ...]:
        return ()

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)

    def stop(self) -> None:
        """The files stay; the lab's folder is removed as a whole."""

    def apply(self, manifest: Manifest) -> int:
        path = self._path(manifest)
        generation = self._generations[path] = self._generations.get(path, 0) + 1
        numbered = manifest | {"metadata": manifest["metadata"] | {"generation": generation}}
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(yaml.safe_dump(numbered, sort_keys=False))
        unfinished.rename(path)
        return generation

    def delete(self, manifest: Manifest) -> None:
        self._path(manifest).unlink()

    def watcher_arguments(self) -> list[str]:
        return ["--source", "directory", "--path", str(self._folder)]

    def _path(self, manifest: Manifest) -> pathlib.Path:
        metadata = manifest["metadata"]
        name = "-".join((manifest["kind"], metadata.get("namespace", ""), metadata["name"]))
        return self._folder / f"{name.lower()}.yaml"


def manifests(name: str) -> list[Manifest]:
    """The objects of one of the lab's own files."""
    return [document for document in yaml.safe_load_all((MANIFESTS / name).read_text()) if document]
