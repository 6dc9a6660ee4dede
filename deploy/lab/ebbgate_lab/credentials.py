"""The lab's bus with credentials: made by `ebbgate-usher credentials`, as for any list of nodes."""

import pathlib
import subprocess
from collections.abc import Sequence

from ebbgate_bus.contracts.permissions import Principal, Role
from ebbgate_bus.runtime import access
from ebbgate_lab import processes


class Credentials:
    """In `folder`, which nats-server's configuration stands beside."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder

    def make(self, address: str, nodes: Sequence[str]) -> None:
        """For a server at `address`."""
        arguments = ["--out", str(self._folder), "--names", address, "--nodes", ",".join(nodes)]
        subprocess.run(
            processes.module("ebbgate_usher", "credentials", *arguments), check=True, capture_output=True
        )

    @property
    def security(self) -> str:
        """For nats-server's configuration."""
        server = self._folder / "server"
        tls = f'tls {{ cert_file: "{server / "tls.crt"}", key_file: "{server / "tls.key"}" }}'
        return f'{tls}\ninclude "{server.relative_to(self._folder.parent)}/accounts.conf"\n'

    def access(self, url: str, principal: Principal) -> access.Access:
        name = f"{principal.role}-{principal.node}" if principal.node else str(principal.role)
        ca, key = self._folder / "ca" / "ca.crt", self._folder / "users" / f"{name}.nk"
        return access.Access(url=url, ca=ca, nkey=key)

    def environment(self, service: str) -> dict[str, str]:
        """Of a process of the lab, by its name there."""
        role, _, node = service.partition("-")
        found = self.access("", Principal(Role(role), node))
        return {"EBBGATE_NATS_CA": str(found.ca), "EBBGATE_NATS_NKEY": str(found.nkey)}
