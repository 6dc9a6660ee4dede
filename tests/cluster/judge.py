"""The resolver's part: says on the bus what became of a policy that is in the API."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from ebbgate_bus.contracts import codec, subjects
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.contracts.reports import Condition, ServingGateway, Truth, Verdict
from ebbgate_bus.runtime import publisher
from ebbgate_lab import apiserver

from .conftest import WITHIN_S, Watcher

Object = dict[str, Any]


def said(type_: str, status: bool, reason: str, message: str = "") -> Condition:
    return Condition(type=type_, status=Truth.TRUE if status else Truth.FALSE, reason=reason, message=message)


ACCEPTED = said("Accepted", True, "Valid")
FOUND = said("GatewayFound", True, "Found", "node2")
NOT_FOUND = said("GatewayFound", False, "NoMatchingNode", "no node matches; traffic is dropped")
READY = said("EgressIPReady", True, "Ready", "192.0.2.1")
WAITING = said("Programmed", False, "Waiting", "1 of 2 nodes; not yet applied by node1")
APPLIED = said("Programmed", True, "Applied", "2 of 2 nodes")
NO_CONFLICT = said("Conflict", False, "None")
GOOD = (ACCEPTED, FOUND, READY, APPLIED, NO_CONFLICT)
SERVING = ServingGateway(node="node2", gateway_ip="10.0.0.2", egress_ips=("192.0.2.1",), pods=3)


class Judge:
    """Of policies that are in the API server, for a watcher."""

    def __init__(self, watcher: Watcher, api: apiserver.ApiServer) -> None:
        self._watcher = watcher
        self._api = api
        self._publisher: publisher.Publisher | None = None

    async def say(self, policy: Object, conditions: tuple[Condition, ...] = GOOD, **fields: Any) -> Verdict:
        """A Verdict on the policy as it is now; `fields` of it that are to be others."""
        metadata = self.get(policy)["metadata"]
        gateways = (SERVING,) if FOUND in conditions else ()
        usual: dict[str, Any] = {
            "uid": metadata["uid"],
            "generation": metadata["generation"],
            "in_force": metadata["generation"],
            "gateways": gateways,
            "pods": 3,
            "nodes_wanted": ("node1", "node2"),
            "nodes_programmed": ("node1", "node2") if APPLIED in conditions else ("node2",),
        }
        verdict = Verdict(policy=metadata["name"], conditions=conditions, **(usual | fields))
        if self._publisher is None:
            assert self._watcher.bus is not None
            self._publisher = publisher.Publisher(self._watcher.bus)
            await self._publisher.start()
        await self._publisher.publish([Outgoing(subjects.verdict(verdict.policy), codec.encode(verdict))])
        return verdict

    def get(self, policy: Object) -> Object:
        return self._api.client.call("GET", apiserver.location(policy))

    def status(self, policy: Object) -> Object:
        return dict(self.get(policy).get("status", {}))

    def condition(self, policy: Object, type_: str) -> Object:
        found = self.status(policy).get("conditions", ())
        return next((each for each in found if each["type"] == type_), {})

    def events(self, policy: Object) -> list[Object]:
        """Those on it, as `kubectl describe` asks for them; first the first."""
        uid = self.get(policy)["metadata"]["uid"]
        path = f"{apiserver.collection('v1', 'Event')}?fieldSelector=involvedObject.uid={uid}"
        found: list[Object] = self._api.client.call("GET", path)["items"]
        return sorted(found, key=lambda event: str(event["eventTime"]))

    def reasons(self, policy: Object) -> list[str]:
        return [event["reason"] for event in self.events(policy)]


async def until(holds: Callable[[], object], complaint: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline, complaint()
        await asyncio.sleep(0.02)
