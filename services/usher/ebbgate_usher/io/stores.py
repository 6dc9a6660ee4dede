"""Where credentials are kept: a folder, or Secrets. The same names and files in both.

Whatever is read back is what a run before wrote; a run that was broken off left some of it, and the next one
makes the rest.
"""

import base64
import os
import pathlib
from collections.abc import Mapping
from typing import Protocol

from ebbgate_usher.io import api

Files = Mapping[str, bytes]
PREFIX = "ebbgate-nats-"


class Store(Protocol):
    async def read(self, name: str) -> Files:
        """Nothing, if there is nothing."""

    async def write(self, name: str, files: Files) -> None:
        """These and no others; readable by their owner alone."""


class Folder:
    def __init__(self, root: pathlib.Path) -> None:
        self._root = root

    async def read(self, name: str) -> Files:
        folder = self._root / name
        return {path.name: path.read_bytes() for path in sorted(folder.glob("*")) if path.is_file()}

    async def write(self, name: str, files: Files) -> None:
        folder = self._root / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for file, content in files.items():
            _replace(folder / file, content)
        for path in folder.iterdir():
            if path.name not in files:
                path.unlink()


def _replace(path: pathlib.Path, content: bytes) -> None:
    """Never half of it: a server may be reading."""
    beside = path.with_name(f".{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    beside.replace(path)


class Secrets:
    """Of one namespace, `ebbgate-nats-<name>`; made if they aren't there, else written by merge."""

    def __init__(self, server: api.Api, namespace: str) -> None:
        self._api = server
        self._path = f"/api/v1/namespaces/{namespace}/secrets"

    async def read(self, name: str) -> Files:
        found = await self._api.call("GET", f"{self._path}/{PREFIX}{name}", missing_ok=True)
        return {file: base64.b64decode(text) for file, text in (found.get("data") or {}).items()}

    async def write(self, name: str, files: Files) -> None:
        data: dict[str, str | None] = {
            file: base64.b64encode(content).decode() for file, content in files.items()
        }
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"{PREFIX}{name}", "labels": {"app.kubernetes.io/part-of": "ebbgate"}},
            "data": data,
        }
        path = f"{self._path}/{PREFIX}{name}"
        if await self._api.call("GET", path, missing_ok=True):
            gone = {file: None for file in await self.read(name) if file not in files}
            await self._api.call("PATCH", path, secret | {"data": data | gone})
        else:
            await self._api.call("POST", self._path, secret)
