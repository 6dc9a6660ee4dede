"""The Kubernetes source alone, where a whole watcher would need minutes: silence, renewed credentials."""

import asyncio
import os
import pathlib
import signal
import time

import pytest

from ebbgate_lab import apiserver
from ebbgate_lab.cluster.kubectl import Kubectl
from ebbgate_watcher.core import inputs
from ebbgate_watcher.core.course import PAGE_SIZE
from ebbgate_watcher.io import api as requests
from ebbgate_watcher.io import kubernetes

from . import proxy
from .crowd import Crowd
from .heard import WITHIN_S, broken, following, listed, recovered, saying, seen

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


async def test_a_list_whose_continuation_expires_is_begun_anew(tmp_path: pathlib.Path) -> None:
    """The first page comes slowly, and meanwhile etcd forgets the version that it is of."""
    flags = {"feature-gates": "WatchList=false,ListFromCacheSnapshot=false"}
    api = apiserver.ApiServer(tmp_path / "older", flags=flags)
    try:
        api.start()
        await asyncio.to_thread(Crowd(api, 13).create, PAGE_SIZE + 100)
        slowly = proxy.Habits(piece=16 * 1024, pause_s=0.1)
        async with (
            proxy.before(api, slowly, seed=7) as between,
            following(proxy.kubeconfig(api, between, tmp_path)) as heard,
        ):
            async with asyncio.timeout(WITHIN_S):
                while not await asyncio.to_thread(_forget, api):
                    pass
            between.habits.pause_s = 0.0
            await heard.until(lambda each: isinstance(each, inputs.Listed) and each.kind == "pod")
            (pods,) = [
                each for each in heard.inputs if isinstance(each, inputs.Listed) and each.kind == "pod"
            ]
            assert len(pods.objects) == PAGE_SIZE + 100
            assert not [each for each in heard.inputs if broken(each)]
    finally:
        api.stop()


def _forget(api: apiserver.ApiServer) -> bool:
    """Have etcd forget all versions but the newest; whether somebody has asked for a forgotten one."""
    api.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"n{time.monotonic_ns()}"}})
    api.compact()
    lines = Kubectl(api.kubeconfig("admin"), "").call("get", "--raw", "/metrics").splitlines()
    return any(
        line.startswith("apiserver_request_total") and 'code="410"' in line and 'resource="pods"' in line
        for line in lines
    )


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
