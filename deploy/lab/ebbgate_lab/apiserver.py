"""A real kube-apiserver with its etcd, as the lab's and the tests' Kubernetes.

No kubelet and no controllers: a Pod is an object with a nodeName, and its address is what was patched into
its status. That is all the watcher ever sees of a real cluster, too. The binaries are those that
`deploy/lab/components/build` makes, or those that ETCD and KUBE_APISERVER name. Two users: `admin`, and
`watcher` with the rights of deploy/rbac.yaml, beside the ServiceAccount that has them there.
"""

import base64
import json
import os
import pathlib
import secrets
import socket
import time
from collections.abc import Mapping
from typing import Any

import yaml

from ebbgate_lab import apiclient, processes, sources

READY_WITHIN_S = 60.0
VERSION = "1.35.4"
CRD = pathlib.Path(__file__).parents[2] / "crd.yaml"
RBAC = CRD.with_name("rbac.yaml")
SERVICE_CIDR = "10.96.0.0/16"
FIELD_MANAGER = "ebbgate-lab"
NOT_OURS = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")
"""Metadata that the server gives; manifests of stories have some of it."""

PLURALS = {
    "CustomResourceDefinition": "customresourcedefinitions",
    "CiliumEgressGatewayPolicy": "ciliumegressgatewaypolicies",
}
CLUSTER_WIDE = frozenset({"Node", "Namespace", "ServiceCIDR", "ClusterRole", "ClusterRoleBinding", *PLURALS})


class ApiServer:
    """A `sources.Source`. Keeps ports, data and tokens over restarts; `folder` holds all of it.

    `crd`: whether that of deploy/ is there from the start.
    `ports`: of the API, of etcd's clients, of its peers; free ones of this machine if left out, which is
    right without a `netns` only. `flags`: of kube-apiserver, beside or instead of those that suffice here.
    `authority`: who signed the certificate that `flags` name.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        host: str = "127.0.0.1",
        ports: tuple[int, int, int] | None = None,
        netns: str = "",
        crd: bool = True,
        flags: Mapping[str, str] = {},
        authority: pathlib.Path | None = None,
    ) -> None:
        self.host, self.netns = host, netns
        self.port, self._etcd_port, self._peer_port = ports or free_ports()
        self._folder = folder
        self._crd = crd
        self._flags = flags
        # Without one the server signs itself a certificate at its first start, and trusts itself.
        self._authority = authority or folder / "certs" / "apiserver.crt"
        self._tokens = {user: secrets.token_hex(16) for user in ("admin", "watcher")}
        folder.mkdir(parents=True, exist_ok=True)
        self.etcd = self._etcd()
        self.api = self._api()
        self.client = self.client_of("admin")

    @property
    def servers(self) -> tuple[processes.Process, ...]:
        return (self.etcd, self.api)

    @property
    def etcd_url(self) -> str:
        return f"http://{self.host}:{self._etcd_port}"

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"

    @property
    def signed_by(self) -> pathlib.Path:
        """The certificate of who signed the server's."""
        return self._authority

    @property
    def service_account_key(self) -> pathlib.Path:
        return self._folder / "service-account.key"

    def start(self) -> None:
        """Both processes, RBAC, and the CRD; returns when it can be used."""
        self._write_secrets()
        self.etcd.start()
        self.start_api()
        self.furnish()

    def furnish(self) -> None:
        """What is there from the start."""
        for manifest in _rbac():
            self.apply(manifest)
        if self._crd:
            self.apply_crd()

    def start_api(self) -> None:
        """The API server alone, e.g. after `api.kill()`."""
        self.api.start()
        self._until(lambda: self.client.request("GET", "/readyz")[0] == 200, "kube-apiserver isn't ready")

    def stop(self) -> None:
        self.client.close()
        self.api.stop()
        self.etcd.stop()

    def apply_crd(self) -> None:
        """The CRD of deploy/; returns when its kind is served."""
        (manifest,) = [each for each in yaml.safe_load_all(CRD.read_text()) if each]
        self.apply(manifest)
        self.until_served("cilium.io/v2", "CiliumEgressGatewayPolicy")

    def until_served(self, api_version: str, kind: str) -> None:
        """Of a CRD that was applied."""
        path = collection(api_version, kind)
        self._until(lambda: self.client.request("GET", path)[0] == 200, f"{kind} isn't served")

    def apply(self, manifest: sources.Manifest) -> int:
        """Create or replace by server-side apply, status included. Answers with the object's generation."""
        wanted = {key: value for key, value in manifest.items() if key != "status"}
        wanted["metadata"] = {k: v for k, v in manifest["metadata"].items() if k not in NOT_OURS}
        path = f"{location(manifest)}?fieldManager={FIELD_MANAGER}&force=true"
        self._ensure_namespace(manifest)
        applied = self.client.call("PATCH", path, wanted)
        if "status" in manifest:
            # Apart: Kubernetes takes status on its own path only.
            whole = wanted | {"status": manifest["status"]}
            self.client.call("PATCH", path.replace("?", "/status?", 1), whole)
        return int(applied["metadata"].get("generation", 0))

    def delete(self, manifest: sources.Manifest) -> None:
        path = location(manifest)
        answer = self.client.call("DELETE", path, {"gracePeriodSeconds": 0})
        if manifest["kind"] == "Namespace":
            # The namespace controller would do this, once it had emptied the namespace.
            answer["spec"]["finalizers"] = []
            self.client.call("PUT", f"{path}/finalize", answer)

    def compact(self) -> None:
        """Have etcd forget all old revisions, so that watches from one of them answer 410."""
        etcd = apiclient.Client(self.host, self._etcd_port, netns=self.netns)
        try:
            revision = etcd.call("POST", "/v3/maintenance/status", {})["header"]["revision"]
            etcd.call("POST", "/v3/kv/compaction", {"revision": revision, "physical": True})
        finally:
            etcd.close()

    def client_of(self, user: str) -> apiclient.Client:
        return apiclient.Client(
            self.host, self.port, token=self._tokens[user], authority=self._authority, netns=self.netns
        )

    def kubeconfig(self, user: str = "watcher") -> pathlib.Path:
        """A kubeconfig of `user`, written when asked for."""
        path = self._folder / f"{user}.kubeconfig"
        credentials = {"token": self._tokens[user]}
        write_kubeconfig(path, user, credentials, server=self.url, authority=self._authority)
        return path

    def watcher_arguments(self) -> list[str]:
        # One watcher, which need not wait for its predecessor's Lease.
        return ["--source", "kubernetes", "--kubeconfig", str(self.kubeconfig()), "--lease", ""]

    def _etcd(self) -> processes.Process:
        peers = f"http://{self.host}:{self._peer_port}"
        arguments = [
            *(str(binary("etcd")), f"--data-dir={self._folder / 'etcd'}", "--unsafe-no-fsync"),
            *(f"--listen-client-urls={self.etcd_url}", f"--advertise-client-urls={self.etcd_url}"),
            *(f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}"),
            *(f"--initial-cluster=default={peers}", "--log-level=warn"),
        ]
        return processes.Process("etcd", arguments, log=self._folder / "etcd.log", netns=self.netns)

    def _api(self) -> processes.Process:
        flags = {**self._usual_flags(), **self._flags}
        arguments = [str(binary("kube-apiserver")), *(f"--{flag}={value}" for flag, value in flags.items())]
        return processes.Process(
            "kube-apiserver", arguments, log=self._folder / "kube-apiserver.log", netns=self.netns
        )

    def _usual_flags(self) -> dict[str, str]:
        key = str(self.service_account_key)
        return {
            "etcd-servers": self.etcd_url,
            "bind-address": self.host,
            "secure-port": str(self.port),
            # Nobody looks the API up by its Service here; a namespace without a default route has no answer.
            "advertise-address": "192.0.2.1",
            "endpoint-reconciler-type": "none",
            "cert-dir": str(self._folder / "certs"),
            "token-auth-file": str(self._folder / "tokens.csv"),
            "service-account-key-file": key,
            "service-account-signing-key-file": key,
            "service-account-issuer": "https://kubernetes.default.svc",
            "authorization-mode": "RBAC",
            "disable-admission-plugins": "ServiceAccount",
            "service-cluster-ip-range": SERVICE_CIDR,
        }

    def _write_secrets(self) -> None:
        groups = {"admin": "system:masters", "watcher": ""}
        rows = [f'{token},{user},{user},"{groups[user]}"\n' for user, token in self._tokens.items()]
        tokens = self._folder / "tokens.csv"
        for path, text in ((tokens, "".join(rows)), (self.service_account_key, _private_key())):
            path.touch(mode=0o600)
            path.write_text(text)

    def _ensure_namespace(self, manifest: sources.Manifest) -> None:
        namespace = manifest["metadata"].get("namespace")
        if namespace and self.client.request("GET", f"/api/v1/namespaces/{namespace}")[0] == 404:
            self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})

    def _until(self, holds: apiclient.Condition, complaint: str) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not apiclient.answers(holds):
            for process in (self.etcd, self.api):
                if not process.running:
                    raise RuntimeError(f"{process.name} ended; its log is {process.log}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{complaint} after {READY_WITHIN_S:.0f} s; see {self.api.log}")
            time.sleep(0.05)


def kept(name: str) -> pathlib.Path:
    """A file that `make components` makes."""
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    ours = os.environ.get("EBBGATE_CACHE") or pathlib.Path(cache) / "ebbgate"
    return pathlib.Path(ours) / f"kube-{VERSION}" / name


def binary(name: str) -> pathlib.Path:
    """A component: the one that the environment names (KUBE_APISERVER), or the one built and kept."""
    variable = name.upper().replace("-", "_")
    path = pathlib.Path(os.environ.get(variable) or kept(name))
    if not os.access(path, os.X_OK):
        raise FileNotFoundError(
            f"{path}: `make components` builds it, or name a ready one in the environment"
        )
    return path


def write_kubeconfig(
    path: pathlib.Path, user: str, credentials: Mapping[str, str], *, server: str, authority: pathlib.Path
) -> None:
    """`credentials`: a token, or a client certificate and its key, as kubeconfigs name them."""
    cluster = {"server": server, "certificate-authority": str(authority)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
        "current-context": "lab",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=1))


def collection(api_version: str, kind: str, namespace: str = "") -> str:
    """The path of all objects of a kind, of one namespace or of the cluster."""
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    inside = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{inside}/{PLURALS.get(kind, kind.lower() + 's')}"


def location(manifest: sources.Manifest) -> str:
    """The path of one object."""
    metadata = manifest["metadata"]
    namespace = "" if manifest["kind"] in CLUSTER_WIDE else metadata.get("namespace", "default")
    return f"{collection(manifest['apiVersion'], manifest['kind'], namespace)}/{metadata['name']}"


def free_ports() -> tuple[int, int, int]:
    probes = [socket.socket() for _ in range(3)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        first, second, third = (int(probe.getsockname()[1]) for probe in probes)
    finally:
        for probe in probes:
            probe.close()
    return first, second, third


def _rbac() -> list[dict[str, Any]]:
    """That of deploy/, for the user `watcher`, too."""
    manifests = list(yaml.safe_load_all(RBAC.read_text()))
    for each in manifests:
        if "subjects" in each:
            user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "watcher"}
            each["subjects"].append(user)
    return manifests


def _private_key() -> str:
    """A P-256 key, in SEC 1 form (RFC 5915) without its public half, which the reader computes."""
    number = bytes([secrets.randbelow(128)]) + secrets.token_bytes(31)  # surely below the curve's order
    der = bytes.fromhex("30310201010420") + number + bytes.fromhex("a00a06082a8648ce3d030107")
    text = base64.b64encode(der).decode()
    return f"-----BEGIN EC PRIVATE KEY-----\n{text[:64]}\n{text[64:]}\n-----END EC PRIVATE KEY-----\n"
