"""The watcher's walk as one would write it with the kubernetes package alone: API server → facts with acks.

`python -m bench.watcher_rivals watch|informer --kubeconfig FILE --nats URL --pods N`. Its models, its Watch
or its informer; the same facts, from the models' attributes; nats-py's own JetStream publish, a thousand at
a time. Prints a line when N facts are acknowledged, and waits to be ended.
"""

import argparse
import asyncio
import signal
import threading
from collections.abc import Iterator
from typing import Any

import nats
from kubernetes import client, config, informer, watch

from ebbgate_bus.contracts import codec, facts, subjects

BATCH = 1000


def fact_of(pod: Any) -> facts.Pod:
    status = pod.status
    return facts.Pod(
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        uid=pod.metadata.uid,
        node=pod.spec.node_name or "",
        ips=tuple(each.ip for each in status.pod_ips or ()),
        labels=pod.metadata.labels or {},
        phase=status.phase or "",
        host_network=bool(pod.spec.host_network),
    )


class Publisher:
    """nats-py's, on a loop of its own: the client's Watch and informer block."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._stream = self._do(self._connect(url))

    def publish(self, pods: list[facts.Pod]) -> None:
        self._do(self._publish(pods))

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _connect(self, url: str) -> Any:
        return (await nats.connect(url)).jetstream()

    async def _publish(self, pods: list[facts.Pod]) -> None:
        messages = [(subjects.fact("pod", pod.namespace, pod.name), codec.encode(pod)) for pod in pods]
        await asyncio.gather(*(self._stream.publish(subject, payload) for subject, payload in messages))


def watched(api: client.CoreV1Api) -> Iterator[facts.Pod]:
    for event in watch.Watch().stream(api.list_pod_for_all_namespaces):
        yield fact_of(event["object"])


def informed(api: client.CoreV1Api) -> Iterator[facts.Pod]:
    arrived: list[facts.Pod] = []
    stirred = threading.Condition()

    def take(pod: Any) -> None:
        with stirred:
            arrived.append(fact_of(pod))
            stirred.notify()

    follower = informer.SharedInformer(api.list_pod_for_all_namespaces)
    for kind in (informer.ADDED, informer.MODIFIED):
        follower.add_event_handler(kind, take)
    follower.start()
    while True:
        with stirred:
            stirred.wait_for(lambda: arrived)
            pods, arrived[:] = list(arrived), []
        yield from pods


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.watcher_rivals", description=__doc__)
    parser.add_argument("way", choices=("watch", "informer"))
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--nats", required=True)
    parser.add_argument("--pods", type=int, required=True)
    given = parser.parse_args()
    config.load_kube_config(given.kubeconfig)
    publisher = Publisher(given.nats)
    waiting: list[facts.Pod] = []
    done = 0
    for pod in {"watch": watched, "informer": informed}[given.way](client.CoreV1Api()):
        waiting.append(pod)
        if len(waiting) == BATCH or done + len(waiting) >= given.pods:
            publisher.publish(waiting)
            done += len(waiting)
            waiting.clear()
            if done == given.pods:
                print("done", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    main()
