"""Many objects through the real API, changed at random by several hands at once; what a fresh list says."""

import concurrent.futures
import contextlib
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from ebbgate_bus.contracts import subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_lab import apiclient, apiserver
from ebbgate_watcher.core import objects
from ebbgate_watcher.io import kubernetes

HANDS = 4
NAMESPACE = "crowd"
LABELS = ("red", "green", "blue")
CREATED, OK, ABSENT = 201, 200, 404


def fresh(api: apiserver.ApiServer) -> dict[str, bytes]:
    """What FACT has to hold: every object of a fresh list, as a fact."""
    found: dict[str, bytes] = {}
    for kind, path in kubernetes.PATHS.items():
        status, answer = api.client.request("GET", path)
        for item in answer["items"] if status == OK else ():
            seen = objects.read(kind, json.dumps(item).encode())
            assert isinstance(seen, objects.Observed), seen
            found[seen.subject] = seen.payload
    return found


def facts_of(stored: Mapping[str, Stored]) -> dict[str, bytes]:
    """What FACT holds in the same form."""
    return {
        subject: message.payload
        for subject, message in stored.items()
        if message.payload and subject.startswith(f"{subjects.ROOT}.fact.")
    }


class Crowd:
    """Pods of a namespace of their own. `seed`: of all that happens to them."""

    def __init__(self, api: apiserver.ApiServer, seed: int) -> None:
        self._api = api
        self._seed = seed
        self._path = apiserver.collection("v1", "Pod", NAMESPACE)
        metadata = {"name": NAMESPACE}
        api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        self.clear()  # what another test left

    def create(self, count: int, *, start: int = 0) -> None:
        """Pods `start` to `start + count`."""
        self._share(lambda client, hand: self._create(client, range(start + hand, start + count, HANDS)))

    def stir(self, names: int, changes: int) -> None:
        """Create, label anew or delete pods below `names` at random: `changes` of them, by several hands."""
        self._share(lambda client, hand: self._stir(client, random.Random(self._seed + hand), names, changes))
        self._seed += HANDS

    def clear(self) -> None:
        """Remove them all. One by one: 20,000 at once take longer than a request may."""
        items = self._api.client.call("GET", self._path)["items"]
        paths = [f"{self._path}/{item['metadata']['name']}" for item in items]
        self._share(lambda client, hand: self._remove(client, paths[hand::HANDS]))

    def _share(self, work: Any) -> None:
        def run(hand: int) -> None:
            with contextlib.closing(self._api.client_of("admin")) as client:
                work(client, hand)

        with concurrent.futures.ThreadPoolExecutor(HANDS) as hands:
            list(hands.map(run, range(HANDS)))

    def _create(self, client: apiclient.Client, numbers: range) -> None:
        for number in numbers:
            status, answer = client.request("POST", self._path, pod(number))
            assert status == CREATED, answer

    def _remove(self, client: apiclient.Client, paths: Sequence[str]) -> None:
        for path in paths:
            status, answer = client.request("DELETE", path, {"gracePeriodSeconds": 0})
            assert status in (OK, ABSENT), answer

    def _stir(self, client: apiclient.Client, choice: random.Random, names: int, changes: int) -> None:
        for _ in range(changes // HANDS):
            manifest = pod(choice.randrange(names), choice.choice(LABELS))
            path = f"{self._path}/{manifest['metadata']['name']}"
            if choice.random() < 0.3:
                self._remove(client, [path])
            else:
                apply = f"{path}?fieldManager=crowd&force=true"
                status, answer = client.request("PATCH", apply, manifest)
                assert status in (OK, CREATED), answer


def pod(number: int, colour: str = LABELS[0]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"p{number}", "namespace": NAMESPACE, "labels": {"colour": colour}},
        "spec": {"nodeName": f"n{number % 50}", "containers": [{"name": "c", "image": "x"}]},
    }
