"""A nats-server with accounts, and everybody's credentials."""

import pathlib
import signal
from collections.abc import Iterable
from typing import Any

from ebbgate_bus.contracts import accounts, nkeys, permissions
from ebbgate_bus.contracts.permissions import Principal, Role
from ebbgate_bus.runtime import access, connection, keys
from ebbgate_lab import processes

from .test_fences import free_port

WATCHER, RESOLVER, READER = Principal(Role.WATCHER), Principal(Role.RESOLVER), Principal(Role.READER)
NODE1, NODE2 = Principal(Role.PROGRAMMER, "node-1"), Principal(Role.PROGRAMMER, "node-2")
EVERYBODY = (WATCHER, RESOLVER, READER, NODE1, NODE2)


class Secured:
    """Not started yet. `tls`: lines for the server's configuration."""

    def __init__(self, folder: pathlib.Path, *, tls: str = "", who: Iterable[Principal] = EVERYBODY) -> None:
        self.folder, self.tls = folder, tls
        self.port = free_port()
        self.url = f"nats://localhost:{self.port}"
        self.seeds = {each: [self.new_seed(each)] for each in who}
        self.process = self._process()

    def new_seed(self, principal: Principal) -> str:
        seed = keys.make(nkeys.Kind.USER)
        self.seed_path(principal).write_text(seed)
        return seed

    def seed_path(self, principal: Principal) -> pathlib.Path:
        return self.folder / f"{principal.role}-{principal.node}.nk"

    def _process(self) -> processes.Process:
        public = {who: [keys.Key(seed).public for seed in seeds] for who, seeds in self.seeds.items()}
        security = self.tls + accounts.with_users(public)
        return processes.nats_server(self.folder, host="127.0.0.1", port=self.port, security=security)

    def start(self) -> None:
        self.process.start()
        processes.until_listening("127.0.0.1", self.port)

    def reload(self) -> None:
        """What `seeds` and `tls` say now, without a restart."""
        pid = self.process
        self._process()
        processes.os.kill(pid.pid, signal.SIGHUP)

    def access(self, principal: Principal, **others: Any) -> access.Access:
        return access.Access(url=self.url, nkey=self.seed_path(principal), **others)

    async def connect(self, principal: Principal, **others: Any) -> connection.Bus:
        return await connection.connect(
            self.access(principal, **others), name=f"test-{principal.role}", principal=principal
        )


def allowed(principal: Principal) -> permissions.Grant:
    return permissions.grant(principal)
