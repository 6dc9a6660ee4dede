"""Buildah: builds a Containerfile without a daemon, and opens images, whoever made them.

Images are in a store of its own, which is gone afterwards. The steps of a build run in a chroot with this
machine's network: what they do is our own, so nothing has to be kept from them.
"""

import json
import os
import pathlib
import shutil
import subprocess
import types
from collections.abc import Mapping
from typing import IO, Any, Self

from ebbgate_lab.containerfile import pip


class Store:
    """Images are named by their ids."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._call("rm", "--all")
        shutil.rmtree(self._folder)

    def load(self, archive: pathlib.Path) -> str:
        return self._call("pull", "--quiet", f"oci-archive:{archive}")

    def name(self, image: str, reference: str) -> None:
        self._call("tag", image, reference)

    def build(self, recipe: pathlib.Path, target: str, home: pathlib.Path, log: IO[str]) -> str:
        """Its context is the working folder. `home` is what steps see as their home folder."""
        told = self._folder / "id"
        options = ["--pull-never", "--network=host", f"--volume={home}:{pip.HOME}:ro", f"--iidfile={told}"]
        self._call("bud", *options, f"--file={recipe}", f"--target={target}", ".", log=log)
        return told.read_text()

    def save(self, image: str, reference: str, archive: pathlib.Path) -> None:
        """As `docker save` does."""
        archive.unlink(missing_ok=True)
        self._call("push", "--quiet", image, f"docker-archive:{archive}:{reference}")

    def root(self, image: str) -> pathlib.Path:
        """Its file system."""
        return pathlib.Path(self._call("mount", self._call("from", "--pull-never", image)))

    def config(self, image: str) -> Mapping[str, Any]:
        """What is run, how, and what it says of itself, as OCI has it."""
        told = json.loads(self._call("inspect", "--type", "image", image))
        config: Mapping[str, Any] = told["OCIv1"]["config"]
        return config

    def _call(self, command: str, *arguments: str, log: IO[str] | None = None) -> str:
        places = ["--root", str(self._folder / "images"), "--runroot", str(self._folder / "run")]
        done = subprocess.run(
            ["buildah", *places, command, *arguments],
            check=True,
            stdout=log or subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "BUILDAH_ISOLATION": "chroot"},
        )
        return (done.stdout or "").strip()
