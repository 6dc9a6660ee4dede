"""The Kubernetes source alone, where a whole watcher would need minutes: silence, renewed credentials."""

import os
import pathlib
import signal

import pytest

from ebbgate_lab import apiserver
from ebbgate_watcher.core import inputs
from ebbgate_watcher.io import api as requests
from ebbgate_watcher.io import kubernetes

from .heard import broken, following, listed, recovered, saying, seen

# Python 3.11 aborts TLS connections one turn of the loop after their session was closed; a test that ends in
# that turn leaves the socket to the garbage collector, which says so. A service's loop goes on until they
# are.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


async def test_a_server_that_fell_silent_is_noticed_and_heard_again(
    api: apiserver.ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "QUIET_S", 1.0)
    monkeypatch.setattr(requests, "CONNECT_S", 1.0)
    async with following(str(api.kubeconfig())) as heard:
        await heard.until(listed)
        os.kill(api.api.pid, signal.SIGSTOP)
        try:
            await heard.until(broken)
        finally:
            os.kill(api.api.pid, signal.SIGCONT)
        await heard.until(recovered)
        api.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "after-silence"}})
        await heard.until(seen("after-silence"))
        api.delete({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "after-silence"}})
        await heard.until(lambda each: isinstance(each, inputs.Vanished))


async def test_a_server_without_streams_is_asked_for_pages(tmp_path: pathlib.Path) -> None:
    flags = {"feature-gates": "WatchList=false"}
    api = apiserver.ApiServer(tmp_path / "older", crd=False, flags=flags)
    try:
        api.start()
        api.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "paged"}})
        async with following(str(api.kubeconfig())) as heard:
            await heard.until(listed)
            (nodes,) = [
                each for each in heard.inputs if isinstance(each, inputs.Listed) and each.kind == "node"
            ]
            assert [each.subject.rpartition(".")[2] for each in nodes.objects] == ["paged"]
            assert not [each for each in heard.inputs if broken(each)]
            api.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "later"}})
            await heard.until(seen("later"))
    finally:
        api.stop()


async def test_a_quiet_watch_is_begun_anew_without_a_word(
    api: apiserver.ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "QUIET_S", 2.0)
    async with following(str(api.kubeconfig())) as heard:
        await heard.until(listed)
        await heard.until(recovered)
        await heard.until(recovered)
        assert not [each for each in heard.inputs if broken(each)]
        assert len([each for each in heard.inputs if listed(each)]) == 1


async def test_credentials_that_are_renewed_in_their_file_are_read_again(
    api: apiserver.ApiServer, tmp_path: pathlib.Path
) -> None:
    good = api.kubeconfig().read_text()
    path = tmp_path / "kubeconfig"
    path.write_text(good.replace('"token": "', '"token": "no-'))
    async with following(str(path)) as heard:
        await heard.until(saying("401"))
        path.write_text(good)
        await heard.until(listed)


@pytest.mark.parametrize("content", [None, "", "a: [", "clusters: 1", "{}"])
async def test_a_kubeconfig_that_cannot_be_read_is_waited_for(
    api: apiserver.ApiServer, tmp_path: pathlib.Path, content: str | None
) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    async with following(str(path)) as heard:
        await heard.until(broken)
        path.write_text(api.kubeconfig().read_text())
        await heard.until(listed)


async def test_outside_a_cluster_without_kubeconfig_the_trouble_is_named() -> None:
    async with following(None) as heard:
        await heard.until(saying("ervice"))
