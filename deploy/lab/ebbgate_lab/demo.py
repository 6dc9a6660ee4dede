"""The first scenario, told as a story: each chapter does something, shows what the world saw, and checks it.

A line that isn't what it must be ends the demo with exit status 1. The checks are the same ones that the
lab's tests make; there is no other way to get a green line than by a real packet in a real log.
"""

import os
import subprocess
import sys
from typing import Any

from rich.console import Console

from ebbgate_lab import kills, lab, observer, processes, sample

NODE1, NODE2, EGRESS = "10.168.60.11", "10.168.60.12", "10.168.60.100"


class WentWrong(Exception):
    """A line of the story wasn't what it must be."""


class Demo:
    """`console`: where the story is told."""

    def __init__(self, lab_: lab.Lab, watching: observer.Observer, console: Console) -> None:
        self.lab = lab_
        self.watching = watching
        self.console = console
        self._requests = 0

    async def tell(self) -> None:
        """The whole story. Raises WentWrong at the first wrong line."""
        await self._ready()
        self._without_policy()
        await self._with_policy()
        await self._list()
        await self._changes()
        await kills.Kills(self).tell()

    def chapter(self, title: str) -> None:
        self.console.print(f"\n[bold cyan]{title}[/]")

    def say(self, text: str) -> None:
        self.console.print(f"  {text}")

    def check(self, good: bool, text: str) -> None:
        """One line of the story that must be true."""
        self.console.print(f"  [green]✓[/] {text}" if good else f"  [red]✗ {text}[/]")
        if not good:
            raise WentWrong(text)

    async def apply(self, spec: dict[str, Any]) -> None:
        """Change the policy to `spec`, and wait until the nodes that it concerns have obeyed."""
        generation = self.lab.source.apply(sample.policy(spec))
        await self.watching.until(
            lambda seen: (
                sample.programmed(seen.verdict(sample.NAME), generation) and seen.obeyed(*self.lab.nodes)
            ),
            what=f"generation {generation} of {sample.NAME} programmed on all its nodes",
        )

    def seen_as(self, pod: str, expected: str) -> None:
        """A request from `pod` must appear in nginx's log with the source `expected`."""
        self._requests += 1
        path = f"/{pod}/{self._requests}"
        answer = self.lab.curl(pod, path)
        visit = self.lab.web.visit_to(path)
        self.say(f"[dim]{visit.line if visit else answer.stderr.strip()}[/]")
        source = visit.source if visit else "nobody"
        self.check(source == expected, f"{pod} is seen as [bold]{source}[/], and must be as {expected}")

    def command_line(self, *arguments: str) -> str:
        """What `ebbgate …` prints, run by a person on the control host."""
        command = [*processes.inside(self.lab.netns("control")), sys.executable, "-m", "ebbgate_cli"]
        said = self.lab.credentials
        done = subprocess.run(
            [*command, *arguments, "--nats", self.lab.url],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, **(said.environment("reader") if said else {})},
        )
        self.check(done.returncode == 0, f"$ ebbgate {' '.join(arguments)} {done.stderr.strip()}")
        return done.stdout

    async def _ready(self) -> None:
        nodes = self.lab.nodes
        await self.watching.until(lambda seen: seen.obeyed(*nodes), what="the first revision on all nodes")
        self.say("watcher, resolver and all programmers are up, and agree")
        for line in self.lab.said_of_pods():
            self.say(f"[dim]{line}[/]")

    def _without_policy(self) -> None:
        self.chapter("1. No policy: the node's own address")
        self.seen_as("mediabot", NODE1)

    async def _with_policy(self) -> None:
        self.chapter("2. The policy egress-sample: mediabot leaves by node2, as 10.168.60.100")
        await self.apply(sample.spec())
        self.seen_as("mediabot", EGRESS)
        self.seen_as("xwing", NODE1)

    async def _list(self) -> None:
        self.chapter("3. What Ebbgate made of it")
        rows = self.command_line("list")
        for line in rows.splitlines():
            self.say(f"[bold]{line}[/]")
        fields = (self.lab.address("mediabot"), "0.0.0.0/0", EGRESS, NODE2)
        self.check(all(field in rows for field in fields), "the row that Cilium's users know")
        self.check(EGRESS in self.command_line("list", "-o", "json"), "and the same as JSON")

    async def _changes(self) -> None:
        self.chapter("4. The policy changes, and the log follows")
        gateway = sample.spec()["egressGateway"] | {"interface": "eth0"}
        del gateway["egressIP"]
        self.say("interface: eth0 instead of egressIP")
        await self.apply(sample.spec(egressGateway=gateway))
        self.seen_as("mediabot", NODE2)
        self.say("neither: the interface with the default route")
        await self.apply(sample.spec(egressGateway={"nodeSelector": gateway["nodeSelector"]}))
        self.seen_as("mediabot", NODE2)
        self.say("excludedCIDRs: [10.168.60.13/32], where nginx is")
        await self.apply(sample.spec(excludedCIDRs=["10.168.60.13/32"]))
        self.seen_as("mediabot", NODE1)
        self.say("the policy is deleted")
        self.lab.source.delete(sample.policy({}))
        await self.watching.until(
            lambda seen: seen.verdict("egress-sample") is None and seen.obeyed(*self.lab.nodes),
            what="egress-sample gone from all nodes",
        )
        self.seen_as("mediabot", NODE1)
