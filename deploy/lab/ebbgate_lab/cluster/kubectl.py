"""The real kubectl, as a person on the control plane's host uses it."""

import json
import pathlib
import subprocess
from typing import Any

from ebbgate_lab import apiserver, processes

TIMEOUT_S = 60.0


class Kubectl:
    """`kubeconfig` may be written later than this is made. `netns`: of that host."""

    def __init__(self, kubeconfig: pathlib.Path, netns: str) -> None:
        self._kubeconfig = kubeconfig
        self._netns = netns
        self.program = apiserver.binary("kubectl")

    def run(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Its exit status is the caller's to look at. `text`: its standard input."""
        # Its cache would be in the home folder, and stay there.
        cache = self._kubeconfig.with_name("kubectl-cache")
        own = (f"--kubeconfig={self._kubeconfig}", f"--cache-dir={cache}")
        command = [*processes.inside(self._netns), str(self.program), *own, *arguments]
        return subprocess.run(
            command, input=text, check=False, capture_output=True, text=True, timeout=TIMEOUT_S
        )

    def call(self, *arguments: str, text: str | None = None) -> str:
        """Its standard output. Raises RuntimeError with what it says on failure."""
        done = self.run(*arguments, text=text)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get … -o json`, decoded."""
        decoded: dict[str, Any] = json.loads(self.call("get", *arguments, "-o", "json"))
        return decoded

    def apply(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """The object as it is then."""
        options = ("--server-side", "--force-conflicts", "-o", "json")
        applied: dict[str, Any] = json.loads(
            self.call("apply", *options, "-f", "-", text=json.dumps(manifest))
        )
        return applied

    def delete(self, manifest: dict[str, Any]) -> None:
        """Returns once it is gone."""
        self.call("delete", "--ignore-not-found", "-f", "-", text=json.dumps(manifest))
