"""How the watcher is known to the API server, and the server to it: tokens that rotate, exec plugins, TLS."""

import json
import pathlib
from typing import Any

import pytest
from kubernetes.aio.config import incluster_config

from ebbgate_lab import apiserver
from ebbgate_watcher.core import inputs

from .conftest import Watcher, events, until_logged
from .heard import following, listed, recovered, saying, seen

# See test_kubernetes_source.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
NAMESPACE = "accounts"


class Account:
    """A service account with the watcher's rights, or without any, and tokens of it."""

    def __init__(self, api: apiserver.ApiServer, name: str, *, rights: bool = True) -> None:
        self._api = api
        self._name = name
        self.make()
        if rights:
            user = {"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}
            role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "ebbgate-watcher"}
            binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding"}
            api.apply(binding | {"metadata": {"name": name}, "roleRef": role, "subjects": [user]})

    @property
    def _manifest(self) -> dict[str, Any]:
        metadata = {"name": self._name, "namespace": NAMESPACE}
        return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}

    def make(self) -> None:
        self._api.apply(self._manifest)

    def remove(self) -> None:
        """Its tokens are void from now on."""
        self._api.delete(self._manifest)

    def token(self) -> str:
        path = f"{apiserver.collection('v1', 'ServiceAccount', NAMESPACE)}/{self._name}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        return str(self._api.client.call("POST", path, request)["status"]["token"])


def kubeconfig(api: apiserver.ApiServer, path: pathlib.Path, **changes: Any) -> str:
    """The lab's, with other fields of its cluster or its user."""
    content = json.loads(api.kubeconfig().read_text())
    content["clusters"][0]["cluster"] |= changes.get("cluster", {})
    if "user" in changes:
        content["users"][0]["user"] = changes["user"]
    path.write_text(json.dumps(content))
    return str(path)


def node(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


async def test_the_token_of_a_pod_is_read_again_when_it_was_rotated(
    api: apiserver.ApiServer, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = Account(api, "rotated")
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text(account.token())
    authority.write_bytes((api.kubeconfig().parent / "certs" / "apiserver.crt").read_bytes())
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", api.host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.port))
    async with following(None) as heard:
        await heard.until(listed)
        api.api.kill()
        api.start_api()
        account.remove()
        account.make()
        await heard.until(saying("401"))
        token.write_text(account.token())
        await heard.until(recovered)
        api.apply(node("after-rotation"))
        await heard.until(seen("after-rotation"))
    api.delete(node("after-rotation"))


async def test_an_exec_plugin_is_run_again_when_its_token_is_refused(
    api: apiserver.ApiServer, tmp_path: pathlib.Path
) -> None:
    good = json.loads(api.kubeconfig().read_text())["users"][0]["user"]["token"]
    token, runs, plugin = tmp_path / "token", tmp_path / "runs", tmp_path / "plugin"
    plugin.write_text(
        f"#!/bin/sh\necho run >>{runs}\n"
        'printf \'{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", '
        f'"status": {{"token": "%s"}}}}\' "$(cat {token})"\n'
    )
    plugin.chmod(0o700)
    token.write_text("stale")
    execute = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}
    async with following(kubeconfig(api, tmp_path / "kubeconfig", user={"exec": execute})) as heard:
        await heard.until(saying("401"))
        token.write_text(good)
        before = len(runs.read_text().splitlines())
        await heard.until(listed)
        # Once for all kinds, and once more for what was under way with the refused one.
        assert len(runs.read_text().splitlines()) - before <= 2


async def test_an_exec_plugin_that_fails_is_named_with_its_words(
    api: apiserver.ApiServer, tmp_path: pathlib.Path
) -> None:
    plugin = tmp_path / "plugin"
    plugin.write_text("#!/bin/sh\necho 'please log in first' >&2\nexit 3\n")
    plugin.chmod(0o700)
    execute = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}
    path = tmp_path / "kubeconfig"
    async with following(kubeconfig(api, path, user={"exec": execute})) as heard:
        await heard.until(saying("no credentials", "please log in first"))
        path.write_text(api.kubeconfig().read_text())
        await heard.until(listed)


async def test_a_kubeconfig_without_credentials_is_said_to_have_none(
    api: apiserver.ApiServer, tmp_path: pathlib.Path
) -> None:
    async with following(kubeconfig(api, tmp_path / "kubeconfig", user={})) as heard:
        await heard.until(saying("no credentials", "token"))


async def test_a_server_that_is_not_to_be_verified_is_not_spoken_to(
    api: apiserver.ApiServer, tmp_path: pathlib.Path
) -> None:
    careless = {"insecure-skip-tls-verify": True}
    async with following(kubeconfig(api, tmp_path / "kubeconfig", cluster=careless)) as heard:
        await heard.until(saying("insecure-skip-tls-verify", "certificate-authority"))
        assert not [each for each in heard.inputs if isinstance(each, inputs.Listed)]


async def test_a_server_of_another_authority_is_refused_until_the_file_has_the_right_one(
    api: apiserver.ApiServer, tmp_path: pathlib.Path
) -> None:
    other = apiserver.ApiServer(tmp_path / "other", crd=False)
    try:
        other.start()
        authority = tmp_path / "ca.crt"
        certificate = "certs/apiserver.crt"
        authority.write_bytes((tmp_path / "other" / certificate).read_bytes())
        path = kubeconfig(api, tmp_path / "kubeconfig", cluster={"certificate-authority": str(authority)})
        async with following(path) as heard:
            await heard.until(saying("certificate verify failed"))
            authority.write_bytes((api.kubeconfig().parent / certificate).read_bytes())
            await heard.until(listed)
    finally:
        other.stop()


async def test_who_has_no_right_says_which_and_is_not_ready(
    watcher: Watcher, api: apiserver.ApiServer, tmp_path: pathlib.Path
) -> None:
    token = Account(api, "stranger", rights=False).token()
    path = kubeconfig(api, tmp_path / "stranger.kubeconfig", user={"token": token})
    port = apiserver.free_ports()[0]
    process = watcher.another(
        *("stranger", "--source", "kubernetes", "--kubeconfig", path, "--lease", ""),
        *("--health-port", str(port), "--health-bind", "127.0.0.1"),
    )
    process.start()
    await until_logged(process, "source.broken", 5)
    assert (await watcher.health(port, "/readyz"))[0] == 503
    assert (await watcher.health(port, "/healthz"))[0] == 200
    reasons = {str(line["origin"]): str(line["reason"]) for line in events(process, "source.broken")}
    for kind, resource in {"pod": "pods", "policy": "ciliumegressgatewaypolicies"}.items():
        assert f'cannot watch resource "{resource}" in API group' in reasons[kind]
    Account(api, "stranger")
    await until_logged(process, "watcher.ready")
    assert (await watcher.health(port, "/readyz"))[0] == 200
    assert len(events(process, "source.broken")) == 5
