"""A synthetic API server: a cluster of any size as lists and watches, over TLS, from one small process.

`python -m bench.watcher_api --port P --pods N --certificate FILE --key FILE`. It knows what a client of the
watched kinds asks: pages, watches from a version on, and streams of all there is (WatchList). Its pods have
what real ones have, managedFields included: 5 KB each. A line on stdin, "RATE SECONDS", has so many pods per
second changed; each changed pod says when in a label, in nanoseconds since 1970.
"""

import argparse
import asyncio
import contextlib
import json
import pathlib
import ssl
import sys
import time
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from typing import Any

from ebbgate_watcher.io.kubernetes import PATHS

STAMP = "bench-changed-ns"
PER_WRITE = 200
"""Objects put into one chunk of the answer."""
BOOKMARK_S = 30.0


class Cluster:
    """Pods by number. `version`: of the last change."""

    def __init__(self, pods: int) -> None:
        self.pods = pods
        self.version = 1_000_000 + pods
        self._template = json.dumps(_pod()).encode()
        self._parts = self._template.split(b"@@")
        self.watchers: set[asyncio.Queue[bytes]] = set()

    def pod(self, number: int, version: int, stamp: str = "0") -> bytes:
        """JSON of one pod; the template's holes are filled in their order."""
        values = {
            b"name": f"shop-7d9c5b6f4-{number:06d}",
            b"uid": f"7c9e6679-7425-40de-944b-{number:012d}",
            b"version": str(version),
            b"stamp": stamp,
            b"node": f"node-{number % 5000}",
            b"ip": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
        }
        return b"".join(
            values[part].encode() if index % 2 else part for index, part in enumerate(self._parts)
        )

    def change(self, number: int) -> None:
        self.version += 1
        line = _event("MODIFIED", self.pod(number, self.version, str(time.time_ns())))
        for queue in self.watchers:
            queue.put_nowait(line)


def _pod() -> dict[str, Any]:
    """A pod of a Deployment as an API server of 1.35 returns it; holes between @@ and @@."""
    parts = {"metadata": _metadata(), "spec": _spec(), "status": _status()}
    return {"apiVersion": "v1", "kind": "Pod", **parts}


def _metadata() -> dict[str, Any]:
    name = "shop-7d9c5b6f4"
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "controller": True, "uid": "0"}
    return {
        "name": "@@name@@",
        "generateName": f"{name}-",
        "namespace": "shop",
        "uid": "@@uid@@",
        "resourceVersion": "@@version@@",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"app": "shop", "tier": "web", "pod-template-hash": "7d9c5b6f4", STAMP: "@@stamp@@"},
        "annotations": {"checksum/config": "0123456789abcdef" * 4, "prometheus.io/scrape": "true"},
        "ownerReferences": [owner],
        "managedFields": [_managed("kube-controller-manager", 40), _managed("kubelet", 30)],
    }


def _spec() -> dict[str, Any]:
    probe = {"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 10}
    container = {
        "name": "shop",
        "image": "registry.example/shop/web:2.31.4",
        "ports": [{"containerPort": 8080, "protocol": "TCP", "name": "http"}],
        "env": [{"name": f"SHOP_SETTING_{number}", "value": f"value-{number}"} for number in range(8)],
        "resources": {"limits": {"memory": "512Mi"}, "requests": {"cpu": "100m", "memory": "256Mi"}},
        "volumeMounts": [{"name": "kube-api-access", "mountPath": "/var/run/secrets", "readOnly": True}],
        "livenessProbe": probe,
        "terminationMessagePath": "/dev/termination-log",
        "imagePullPolicy": "IfNotPresent",
    }
    return {
        "nodeName": "@@node@@",
        "containers": [container],
        "serviceAccountName": "shop",
        "restartPolicy": "Always",
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}],
        "volumes": [{"name": "kube-api-access", "projected": {"defaultMode": 420, "sources": []}}],
    }


def _status() -> dict[str, Any]:
    conditions = [
        {"type": each, "status": "True", "lastProbeTime": None, "lastTransitionTime": "2026-01-01T00:00:03Z"}
        for each in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    ]
    container = {"name": "shop", "ready": True, "restartCount": 0, "imageID": "0" * 64, "image": "web"}
    return {
        "phase": "Running",
        "conditions": conditions,
        "hostIP": "10.168.60.11",
        "podIP": "@@ip@@",
        "podIPs": [{"ip": "@@ip@@"}],
        "startTime": "2026-01-01T00:00:00Z",
        "containerStatuses": [container],
        "qosClass": "Burstable",
    }


def _managed(manager: str, fields: int) -> dict[str, Any]:
    names = (f'f:k{{"name":"field-{number}"}}' for number in range(fields))
    named: dict[str, Any] = {name: {".": {}, "f:name": {}} for name in names}
    return {"manager": manager, "operation": "Update", "apiVersion": "v1", "fieldsV1": {"f:spec": named}}


def _event(kind: str, value: bytes) -> bytes:
    return b'{"type":"' + kind.encode() + b'","object":' + value + b"}\n"


def _bookmark(version: int, *, end: bool) -> bytes:
    annotations = {"k8s.io/initial-events-end": "true"} if end else {}
    metadata = {"resourceVersion": str(version), "annotations": annotations}
    return _event("BOOKMARK", json.dumps({"kind": "Pod", "apiVersion": "v1", "metadata": metadata}).encode())


async def _serve(cluster: Cluster, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            target = urllib.parse.urlsplit(head.split(b" ", 2)[1].decode())
            query = dict(urllib.parse.parse_qsl(target.query))
            is_pods = target.path == PATHS["pod"]
            if target.path not in PATHS.values():
                await _answer(writer, b"{}", status="404 Not Found")
            elif "watch" in query:
                await _watch(cluster, writer, query, is_pods=is_pods)
                break
            else:
                await _page(cluster, writer, query, is_pods=is_pods)
    writer.close()


async def _answer(writer: asyncio.StreamWriter, body: bytes, status: str = "200 OK") -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()


async def _page(
    cluster: Cluster, writer: asyncio.StreamWriter, query: dict[str, str], *, is_pods: bool
) -> None:
    pods = cluster.pods if is_pods else 0
    start = int(query.get("continue") or 0)
    end = min(pods, start + int(query.get("limit") or pods or 1))
    items = b",".join(cluster.pod(number, 1_000_000 + number) for number in range(start, end))
    more = str(end) if end < pods else ""
    metadata = json.dumps({"resourceVersion": str(cluster.version), "continue": more}).encode()
    kind = b'{"kind":"PodList","apiVersion":"v1","metadata":'
    await _answer(writer, kind + metadata + b',"items":[' + items + b"]}")


async def _watch(
    cluster: Cluster, writer: asyncio.StreamWriter, query: dict[str, str], *, is_pods: bool
) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    if is_pods:
        cluster.watchers.add(queue)
    try:
        if query.get("resourceVersion", "0") == "0":
            for part in _all(cluster) if is_pods else ():
                await _chunk(writer, part)
        if "sendInitialEvents" in query:
            await _chunk(writer, _bookmark(cluster.version, end=True))
        async for part in _changes(queue):
            if part or "allowWatchBookmarks" in query:
                await _chunk(writer, part or _bookmark(cluster.version, end=False))
    finally:
        cluster.watchers.discard(queue)


def _all(cluster: Cluster) -> Iterator[bytes]:
    for start in range(0, cluster.pods, PER_WRITE):
        numbers = range(start, min(cluster.pods, start + PER_WRITE))
        yield b"".join(_event("ADDED", cluster.pod(number, 1_000_000 + number)) for number in numbers)


async def _changes(queue: asyncio.Queue[bytes]) -> AsyncIterator[bytes]:
    """Nothing, when a bookmark is due."""
    while True:
        try:
            async with asyncio.timeout(BOOKMARK_S):
                yield await queue.get()
        except TimeoutError:
            yield b""


async def _chunk(writer: asyncio.StreamWriter, part: bytes) -> None:
    writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
    await writer.drain()


async def _obey(cluster: Cluster) -> None:
    """Orders of stdin."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while order := await reader.readline():
        rate, seconds = map(float, order.split())
        began = loop.time()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - loop.time()))
            cluster.change(number % cluster.pods)
        print("done", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.watcher_api", description=__doc__)
    for option in ("--port", "--pods"):
        parser.add_argument(option, type=int, required=True)
    for option in ("--certificate", "--key"):
        parser.add_argument(option, type=pathlib.Path, required=True)
    given = parser.parse_args()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(given.certificate, given.key)
    cluster = Cluster(given.pods)
    server = await asyncio.start_server(
        lambda reader, writer: _serve(cluster, reader, writer), "127.0.0.1", given.port, ssl=tls
    )
    async with server:
        await _obey(cluster)


if __name__ == "__main__":
    asyncio.run(main())
