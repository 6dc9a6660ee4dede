"""A nats-server that trusts an operator, as hosted ones do: who one is says a JWT, in a .creds file."""

import pathlib
from typing import Any

from ebbgate_bus.contracts import nkeys
from ebbgate_bus.runtime import keys
from ebbgate_lab import processes
from ebbgate_usher.core import claims

from .test_fences import free_port

_OPERATOR: Any = 14 << 3
"""The kind of an operator's nkey, which nothing of ours ever has."""
_MESSAGING = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
_STREAMS = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
_CREDS = """-----BEGIN NATS USER JWT-----
{jwt}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------
"""


class Operated:
    """Not started yet. `creds`: of a user of the only account that has streams."""

    def __init__(self, folder: pathlib.Path) -> None:
        operator, account, system = (keys.Key(keys.make(nkeys.Kind.ACCOUNT)) for _ in range(3))
        trusts = nkeys.encode_public(_OPERATOR, nkeys.decode_public(operator.public)[1])
        trusted = _jwt(operator, trusts, trusts, {"type": "operator"})
        ours, others = (
            _jwt(operator, trusts, key.public, {"type": "account", "limits": limits | {"wildcards": True}})
            for key, limits in ((account, _MESSAGING | _STREAMS), (system, _MESSAGING))
        )
        seed = keys.make(nkeys.Kind.USER)
        user = {"type": "user", "subs": -1, "data": -1, "payload": -1}
        jwt = _jwt(account, account.public, keys.Key(seed).public, user)
        self.creds = folder / "user.creds"
        self.creds.write_text(_CREDS.format(jwt=jwt, seed=seed))
        port = free_port()
        self.url = f"nats://127.0.0.1:{port}"
        security = f"""
            operator: {trusted}
            system_account: {system.public}
            resolver: MEMORY
            resolver_preload {{ {account.public}: {ours}, {system.public}: {others} }}
        """
        self.process = processes.nats_server(folder, host="127.0.0.1", port=port, security=security)
        self._port = port

    def start(self) -> None:
        self.process.start()
        processes.until_listening("127.0.0.1", self._port)


def _jwt(key: keys.Key, issuer: str, subject: str, nats: dict[str, Any]) -> str:
    unsigned = claims.unsigned(
        {"iss": issuer, "sub": subject, "name": "test", "iat": 1, "nats": nats | {"version": 2}}
    )
    return (unsigned + b"." + claims.encoded(key.sign(unsigned))).decode()
