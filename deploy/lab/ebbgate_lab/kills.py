"""The fifth chapter: every process is killed once, while a client requests without pause.

What must hold: no request is lost or seen with another address, each process continues when it is started
again, and a restarted programmer writes nothing to a kernel that is right already. The last is seen from
outside, by
`nft monitor`, `ip monitor` and the ids of BPF programs and links, not by a counter of ours.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

from ebbgate_lab import processes, sample, webserver, witnesses

if TYPE_CHECKING:
    from ebbgate_lab import demo

REQUESTS_EACH = 60
"""Requests that must be answered while a process is dead, and again after it is back."""
READY = '"programmer.ready"'
"""What a programmer logs once its kernel has been compared with the latest Commits and is as wanted."""


class Kills:
    """`story`: the demo that this chapter belongs to."""

    def __init__(self, story: demo.Demo) -> None:
        self.story = story
        self.lab = story.lab
        self._progress = self.lab.folder / "client.progress"
        self._result = self.lab.folder / "client.result"

    async def tell(self) -> None:
        story = self.story
        story.chapter("5. Everything is killed once, while a client requests without pause")
        await story.apply(sample.spec())
        client = self._start_client()
        try:
            await self._until_answered(REQUESTS_EACH)
            for name in (
                *(f"programmer-{node}" for node in self.lab.nodes),
                "resolver",
                "watcher",
                "nats-server",
            ):
                await self._kill(name)
        finally:
            client.stop()
        self._account()
        await self._continues()

    def _start_client(self) -> processes.Process:
        self._progress.write_text("0")
        arguments = [webserver.ADDRESS, "--progress", str(self._progress), "--result", str(self._result)]
        command = processes.module("ebbgate_lab.client", *arguments)
        client = processes.Process(
            "client", command, log=self.lab.folder / "client.log", netns=self.lab.netns("mediabot")
        )
        client.start()
        return client

    async def _kill(self, name: str) -> None:
        process = self.lab.processes[name]
        process.kill()
        await self._until_answered(REQUESTS_EACH)
        if name.startswith("programmer-"):
            await self._restart_programmer(name)
        else:
            self.lab.start(name)
        await self._until_answered(REQUESTS_EACH)
        self.story.check(process.running, f"{name} killed and back, requests went on meanwhile")

    async def _restart_programmer(self, name: str) -> None:
        node = name.removeprefix("programmer-")
        netns = self.lab.netns(node)
        before = witnesses.bpf_ids(self.lab.pin_path(node))
        with witnesses.kernel_writes(netns, self.lab.folder) as watch:
            await self._restart_until_ready(name)
        self.story.check(not watch.seen, f"{name} wrote nothing to its kernel {watch.seen or ''}")
        after = witnesses.bpf_ids(self.lab.pin_path(node))
        self.story.check(after == before, f"its {len(after)} BPF programs, maps and links are the same ones")

    async def _restart_until_ready(self, name: str) -> None:
        log = self.lab.processes[name].log
        seen = log.read_text().count(READY)
        self.lab.start(name)
        deadline = time.monotonic() + 10
        while log.read_text().count(READY) == seen:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} isn't ready after 10 s")
            await asyncio.sleep(0.02)

    async def _until_answered(self, more: int) -> None:
        """Wait until `more` further requests were answered."""
        target = self._answered() + more
        deadline = time.monotonic() + 15
        while self._answered() < target:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the client got no {more} answers in 15 s")
            await asyncio.sleep(0.02)

    def _answered(self) -> int:
        """Requests answered so far; the client writes the file anew each time, so it may be empty for a
        moment.
        """
        while not (text := self._progress.read_text()):
            time.sleep(0.001)
        return int(text)

    def _account(self) -> None:
        result = json.loads(self._result.read_text())
        visits = [visit for visit in self.lab.web.visits() if visit.path.startswith("/client/")]
        sources = sorted({visit.source for visit in visits})
        self.story.check(
            not result["lost"] and len(visits) == result["sent"],
            f"{result['sent']} requests, {len(result['lost'])} lost, slowest {result['slowest_ms']} ms",
        )
        self.story.check(sources == ["10.168.60.100"], f"all of them seen as {', '.join(sources)}")
        self.story.check(self.lab.topology.leaks() == 0, "not one packet left with the pod's own address")

    async def _continues(self) -> None:
        self.story.say("and all of them continue: the policy changes once more")
        await self.story.apply(sample.spec(excludedCIDRs=["10.168.60.13/32"]))
        self.story.seen_as("mediabot", "10.168.60.11")
        await self.story.apply(sample.spec())
        self.story.seen_as("mediabot", "10.168.60.100")
