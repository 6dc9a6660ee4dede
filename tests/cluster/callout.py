"""A nats-server that asks the usher, an usher that asks the real API server, and tokens of all kinds."""

import base64
import json
import pathlib
import subprocess
import sys
import time
from typing import Any

import yaml
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from ebbgate_bus.contracts.permissions import Principal
from ebbgate_bus.runtime import access, connection
from ebbgate_lab import apiserver, processes
from ebbgate_usher.io import making, stores

NAMESPACE, AUDIENCE = "ebbgate", "ebbgate-nats"
RBAC = apiserver.RBAC.with_name("rbac-bus.yaml")


class Hall:
    """`folder`: credentials, logs, tokens."""

    def __init__(self, folder: pathlib.Path, api: apiserver.ApiServer) -> None:
        self.folder, self.api = folder, api
        self.port, *_ = apiserver.free_ports()
        self.url = f"nats://localhost:{self.port}"
        self.ca = folder / "ca" / "ca.crt"
        self.ushers: list[processes.Process] = []
        self.health_port = 0
        self.server: processes.Process | None = None

    async def start(self) -> None:
        for manifest in yaml.safe_load_all(RBAC.read_text()):
            self.api.apply(manifest)
        for node in ("node-1", "node-2"):
            self.pod(node)
        wish = making.Wish(names=("localhost",), callout=True)
        await making.make(stores.Folder(self.folder), wish, time.time())
        files = self.folder / "server"
        tls = f'tls {{ cert_file: "{files}/tls.crt", key_file: "{files}/tls.key" }}'
        security = f'{tls}\ninclude "server/accounts.conf"\n'
        self.server = processes.nats_server(self.folder, host="127.0.0.1", port=self.port, security=security)
        self.server.start()
        processes.until_listening("127.0.0.1", self.port)
        self.usher()

    def usher(self, account: str = "ebbgate-usher") -> processes.Process:
        """One more, as the ServiceAccount that deploy/ has for it. Of its health it says on `health_port`."""
        token = self.write(f"{account}.token", self.token(account, audience=""))
        self.health_port, *_ = apiserver.free_ports()
        number = len(self.ushers)
        keys = self.folder / "usher"
        arguments = [
            *("serve", "--nats", self.url, "--nats-ca", str(self.ca), "--nats-nkey", str(keys / "usher.nk")),
            *("--issuer", str(keys / "issuer.nk"), "--api-url", self.api.url, "--api-token", str(token)),
            *("--api-ca", str(self.api.signed_by), "--health-port", str(self.health_port)),
        ]
        process = processes.Process(
            f"usher-{number}",
            [sys.executable, "-m", "ebbgate_usher", *arguments],
            log=self.folder / f"usher-{number}.log",
        )
        process.start()
        self.ushers.append(process)
        return process

    def health(self, path: str) -> str:
        """What the last usher says there."""
        command = ["curl", "-s", "--max-time", "5", f"http://127.0.0.1:{self.health_port}{path}"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def stop(self) -> None:
        for process in (*self.ushers, *([self.server] if self.server else [])):
            process.kill()

    def pod(self, node: str) -> dict[str, Any]:
        """The programmer's, on `node`."""
        self.api.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"programmer-{node}", "namespace": NAMESPACE},
            "spec": {
                "nodeName": node,
                "serviceAccountName": "ebbgate-programmer",
                "containers": [{"name": "programmer", "image": "x"}],
            },
        }
        self.api.apply(pod)
        return pod

    def token(self, account: str, *, node: str = "", audience: str = AUDIENCE) -> str:
        """`node`: bound to the programmer's pod there."""
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token"
        spec: dict[str, Any] = {"audiences": [audience]} if audience else {}
        if node:
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": f"programmer-{node}"}
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return str(self.api.client.call("POST", path, request)["status"]["token"])

    def ending(self, token: str, at_s: float) -> str:
        """The same, ending then: signed anew with the API server's own key."""
        header, body, _ = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(body + "=="))
        claims |= {"exp": int(at_s), "iat": int(at_s) - 600, "nbf": int(at_s) - 600}
        what = f"{header}.{_encoded(json.dumps(claims).encode())}".encode()
        key = serialization.load_pem_private_key(self.api.service_account_key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        r, s = decode_dss_signature(key.sign(what, ec.ECDSA(hashes.SHA256())))
        return f"{what.decode()}.{_encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def write(self, name: str, token: str) -> pathlib.Path:
        path = self.folder / name
        path.write_text(token)
        return path

    def access(self, token: str, name: str = "client.token") -> access.Access:
        return access.Access(url=self.url, ca=self.ca, token=self.write(name, token))

    async def connect(self, token: str, principal: Principal, **others: Any) -> connection.Bus:
        reach = self.access(token, f"{principal.role}-{principal.node}.token")
        return await connection.connect(reach, name=f"test-{principal.role}", principal=principal, **others)


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
