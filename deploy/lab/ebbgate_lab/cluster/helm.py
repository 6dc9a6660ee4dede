"""The real Helm, as a person on the control plane's host uses it."""

import json
import pathlib
import subprocess
from collections.abc import Mapping
from typing import Any

from ebbgate_lab import apiserver, processes

CHART = pathlib.Path(__file__).parents[3] / "helm" / "ebbgate"
TIMEOUT_S = 180.0


class Helm:
    """`kubeconfig`: of whoever installs. `netns`: of that host."""

    def __init__(self, kubeconfig: pathlib.Path, netns: str) -> None:
        self._kubeconfig = kubeconfig
        self._netns = netns

    def run(self, *arguments: str, values: Mapping[str, Any] = {}) -> subprocess.CompletedProcess[str]:
        """Its exit status is the caller's to look at. `values`: as if in a file of values."""
        home = str(self._kubeconfig.with_name("helm"))  # its caches would be in the caller's, and stay there
        homes = {"HOME": home, **{f"HELM_{name}_HOME": home for name in ("CACHE", "CONFIG", "DATA")}}
        command = [
            *processes.inside(self._netns),
            str(apiserver.binary("helm")),
            f"--kubeconfig={self._kubeconfig}",
            *arguments,
        ]
        if values:
            command += ["--values", "-"]
        return subprocess.run(
            command,
            input=json.dumps(values),
            env=homes,
            check=False,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )

    def call(self, *arguments: str, values: Mapping[str, Any] = {}) -> str:
        """Its standard output. Raises RuntimeError with what it says on failure."""
        done = self.run(*arguments, values=values)
        if done.returncode:
            raise RuntimeError(f"helm {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout
