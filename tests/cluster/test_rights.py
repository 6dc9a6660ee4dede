"""The watcher under the role of deploy/rbac.yaml alone, by the token of its ServiceAccount: with it all
works, and with one verb less something doesn't, and the log says which verb on which resource.
"""

import asyncio
import contextlib
import json
import pathlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest
import yaml

from ebbgate_bus.contracts import codec, reports, subjects
from ebbgate_lab import apiserver, processes

from .conftest import WITHIN_S, Watcher, events, until_logged
from .judge import ACCEPTED, GOOD, NOT_FOUND, Judge, until
from .test_watcher_kubernetes import Objects

NAME, NAMESPACE = "ebbgate-watcher", "ebbgate"
TERMS = ("--lease-duration", "3", "--lease-renew-deadline", "2", "--lease-retry-period", "0.3")
Manifest = dict[str, Any]


class Right(msgspec.Struct, frozen=True):
    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"

    @property
    def name(self) -> str:
        return f"without-{self.verb}-{self.resource.replace('/', '-')}"

    @property
    def words(self) -> str:
        """The API server's, when it is missing."""
        return f'cannot {self.verb} resource "{self.resource}" in API group "{self.group}"'

    @property
    def matters_for_readiness(self) -> bool:
        """Facts don't depend on what is said back."""
        return self.resource not in ("events", "ciliumegressgatewaypolicies/status")


def manifests() -> list[Manifest]:
    return list(yaml.safe_load_all(apiserver.RBAC.read_text()))


def rights() -> list[Right]:
    return [
        Right(group, resource, verb)
        for manifest in manifests()
        for rule in manifest.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


def without(missing: Right | None, name: str) -> list[Manifest]:
    """The manifests of deploy/ but for one right, under another name."""
    renamed: list[Manifest] = json.loads(json.dumps(manifests()).replace(NAME, name))
    for manifest in renamed:
        if "rules" in manifest:
            manifest["rules"] = [
                rule | {"resources": [resource], "verbs": verbs}
                for rule in manifest["rules"]
                for resource in rule["resources"]
                if (
                    verbs := [
                        verb
                        for verb in rule["verbs"]
                        if Right(rule["apiGroups"][0], resource, verb) != missing
                    ]
                )
            ]
    return renamed


class Account:
    """A ServiceAccount with the rights of deploy/, but for one, and a watcher that is it."""

    def __init__(self, folder: pathlib.Path, api: apiserver.ApiServer, missing: Right | None) -> None:
        self.name = missing.name if missing else "with-all"
        self._folder = folder / self.name
        self._folder.mkdir()
        self._api = api
        self._missing = missing
        for manifest in without(missing, self.name):
            api.apply(manifest)
        self.watcher = Watcher(self._folder, api)
        self.judge = Judge(self.watcher, api)
        self.port = apiserver.free_ports()[0]
        self.process = self._process()

    async def health(self) -> int:
        return (await self.watcher.health(self.port, "/readyz"))[0]

    async def until_behind(self, late: bool) -> None:
        """Until its beats say whether verdicts wait to be written."""
        assert self.watcher.bus is not None
        subject = subjects.beat("watcher", "confined")
        heard = await self.watcher.bus.subscribe(subject)
        async with asyncio.timeout(WITHIN_S):
            async for message in heard.messages:
                behind_s = codec.decode_as(reports.Beat, subject, message.data).behind_s
                if behind_s is not None and (behind_s >= 1 if late else behind_s == 0):
                    break

    async def flap(self, policy: Manifest) -> None:
        """Have its gateway found and lost, twice, each time until that is written, if it may be."""
        for conditions in (GOOD, (ACCEPTED, NOT_FOUND, *GOOD[2:])) * 2:
            await self.judge.say(policy, conditions)
            if self._missing and self._missing.resource.endswith("/status"):
                await asyncio.sleep(0.5)
                continue
            wanted = str(conditions[1].status)
            await until(
                lambda wanted=wanted: self.judge.condition(policy, "GatewayFound").get("status") == wanted,
                lambda: self.judge.get(policy),
            )

    def _process(self) -> processes.Process:
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{self.name}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token = self._api.client.call("POST", path, request)["status"]["token"]
        config = json.loads(self._api.kubeconfig().read_text())
        config["users"][0]["user"] = {"token": token}
        kubeconfig = self._folder / "kubeconfig"
        kubeconfig.write_text(json.dumps(config))
        return self.watcher.another(
            "confined",
            *("--source", "kubernetes", "--kubeconfig", str(kubeconfig)),
            *("--lease", f"{NAMESPACE}/{self.name}", *TERMS),
            *("--health-bind", "127.0.0.1", "--health-port", str(self.port)),
        )


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apiserver.ApiServer]:
    """An API server without streams of all objects: it is asked for lists."""
    flags = {"feature-gates": "WatchList=false"}
    server = apiserver.ApiServer(tmp_path_factory.mktemp("older"), flags=flags)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextlib.asynccontextmanager
async def account(
    folder: pathlib.Path, api: apiserver.ApiServer, missing: Right | None = None
) -> AsyncIterator[Account]:
    account = Account(folder, api, missing)
    try:
        await account.watcher.connect()
        account.process.start()
        yield account
    finally:
        await account.watcher.close()


async def test_with_its_role_everything_works(tmp_path: pathlib.Path, api: apiserver.ApiServer) -> None:
    objects = Objects(api, "right")
    policy = objects.make(objects.policy())
    async with account(tmp_path, api) as confined:
        judge = confined.judge
        await until_logged(confined.process, "watcher.ready")
        await confined.flap(policy)
        await until(
            lambda: any(event.get("series") for event in judge.events(policy)), lambda: judge.events(policy)
        )
        assert judge.condition(policy, "Ready")["status"] == "False"
        assert await confined.health() == 200
        assert not events(confined.process, "source.broken")
    objects.clean()


async def test_also_where_it_has_to_list(tmp_path: pathlib.Path, older: apiserver.ApiServer) -> None:
    async with account(tmp_path, older) as confined:
        await until_logged(confined.process, "watcher.ready")
        assert await confined.health() == 200
        assert not events(confined.process, "source.broken")


@pytest.mark.parametrize("lists", [False, True], ids=["streams", "lists"])
async def test_one_verb_less_is_noticed_and_named(
    tmp_path: pathlib.Path, api: apiserver.ApiServer, older: apiserver.ApiServer, lists: bool
) -> None:
    """Each right is missing once, for a watcher of its own. A server with streams is asked for no list."""
    server = older if lists else api
    objects = Objects(server, "less")
    chosen = [right for right in rights() if (right.verb == "list") == lists]
    assert len(chosen) == (5 if lists else 11)
    await asyncio.gather(*(_without(right, tmp_path, server, objects) for right in chosen))
    objects.clean()


async def _without(
    missing: Right, folder: pathlib.Path, server: apiserver.ApiServer, objects: Objects
) -> None:
    async with account(folder, server, missing) as confined:
        if not missing.matters_for_readiness:
            await until_logged(confined.process, "watcher.ready")
            await confined.flap(objects.make(objects.policy(confined.name)))
            await confined.until_behind(late=missing.resource.endswith("/status"))
        (line,) = await until_logged(confined.process, "source.broken")
        assert missing.words in str(line["reason"]), (missing, line)
        wanted = 503 if missing.matters_for_readiness else 200
        async with asyncio.timeout(WITHIN_S):
            while await confined.health() != wanted:  # who has the Lease keeps it for its time
                await asyncio.sleep(0.1)
        assert len(events(confined.process, "source.broken")) == 1, missing


def test_the_role_has_no_more_than_that() -> None:
    kinds = ("pods", "namespaces", "nodes", "servicecidrs", "ciliumegressgatewaypolicies")
    watching = [f"{verb} {kind}" for verb in ("list", "watch") for kind in kinds]
    leases = [f"{verb} leases" for verb in ("get", "create", "update")]
    said_back = ["patch ciliumegressgatewaypolicies/status", "create events", "patch events"]
    assert sorted(map(str, rights())) == sorted(watching + leases + said_back)
