"""The hunt itself: changes and kills at random while everybody sends; what was allowed when is written down.

A change is over when Ebbgate says so, never after some time: its facts are on the bus, a policy published
after them is judged, the rows ask for the new state, and every node says that it has applied them. Kills come
before a change (which then waits for the restart) or some milliseconds into it.
"""

import asyncio
import itertools
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import msgspec

from ebbgate_lab import lab, namespaces, observer, processes, topology
from ebbgate_lab.hunt import capture, changes, damage, judge, objects, packets, world

SETTLED_WITHIN_S = 40.0
LINGER_S = 0.6
HARM_SHARE = 0.1
HARM_AND_CHANGE_SHARE = 0.5
KILL_SHARE = 0.25
LOSS_SHARE = 0.3
"""Of the bus's kills."""
KILL_WITHIN_S = 0.1
"""A change takes about as long to reach the kernels."""
MODULE = "ebbgate_lab.hunt"

log = logging.getLogger(__name__)


class Account(msgspec.Struct, frozen=True):
    """One hunt. `lost`: packets that the capture missed; a hunt with any is void."""

    seed: int
    seconds: float
    changes: int
    kills: int
    damages: int
    lost: int
    verdict: judge.Verdict

    def text(self) -> str:
        found = self.verdict
        kinds = ", ".join(f"{n:,} of {kind}" for n, kind in zip(found.by_kind, packets.KINDS, strict=True))
        return (
            f"seed {self.seed}: {self.changes} changes, {self.kills} kills and {self.damages} damages in "
            f"{self.seconds:.0f} s; "
            f"{found.judged:,} packets judged ({kinds}), {found.ipv6:,} of them of IPv6, {found.steered:,} "
            f"not to have their node's address; {len(found.wrong)} wrong"
        )


def network(prefix: str) -> topology.Topology:
    """Of both families: each address has its twin."""
    hosts = (
        topology.Host("control", (lab.CONTROL,)),
        *(
            topology.Host(
                name, world.of_family((*ips, *world.EGRESS_IPS[name]), "ipv4"), f"10.244.{number}.0/24"
            )
            for number, (name, ips) in enumerate(world.NODES.items(), start=1)
        ),
        topology.Host("external", world.of_family(world.DESTINATIONS, "ipv4")),
    )
    return topology.Topology(prefix, hosts, world.PODS)


async def hunt(scene: lab.Lab, *, seed: int, seconds: float, harm: Sequence[str] = damage.ROUTING) -> Account:
    """On a lab with `network`, which it builds; the caller takes it down. `harm`: kinds of damage. Raises
    TimeoutError if a change isn't in force, or damage isn't repaired, after SETTLED_WITHIN_S.
    """
    scene.build()
    _prepare(scene.topology)
    with namespaces.entered(scene.netns("control")):
        scene.install(list(objects.of(changes.first()).values()))
        async with _observing(scene) as watching:
            hunter = Hunter(scene, watching, seed, harm)
            await hunter.settle()
            with _sending(scene):
                caught = await _captured(scene, hunter, seconds)
    found = judge.judge(caught.packets, hunter.periods)
    return Account(seed, seconds, hunter.changes, hunter.kills, hunter.damages, caught.lost, found)


def _prepare(network: topology.Topology) -> None:
    """Pods' TTL; and nodes masquerade with their own IPv6 address whatever else they have: the kernel would
    take the newest, but for a label that doesn't fit.
    """
    settings = (
        f"net.ipv4.ip_default_ttl={capture.POD_TTL}",
        f"net.ipv6.conf.eth0.hop_limit={capture.POD_TTL}",
    )
    for place in world.PODS:
        network.run(place.name, "sysctl", "-qw", *settings)
    for node, ips in world.EGRESS_IPS.items():
        for ip in world.of_family(ips, "ipv6"):
            network.run(node, "ip", "addrlabel", "add", "prefix", f"{ip}/128", "label", "99")


class Hunter:
    """`periods`: which state may have been in force when. The last one still is."""

    def __init__(self, scene: lab.Lab, watching: observer.Observer, seed: int, harm: Sequence[str]) -> None:
        self._scene, self._watching, self._harm = scene, watching, harm
        self._dice, self._losses = random.Random(seed), random.Random(f"losses of {seed}")
        self._state = changes.first()
        self._fences = itertools.count(1)
        self._numbers = itertools.count(100, 10)
        self.periods = [judge.Period(0, judge.FOREVER_NS, self._state, "the beginning")]
        self.changes = self.kills = self.damages = 0

    async def step(self) -> None:
        if self._dice.random() < HARM_SHARE:
            await self._harmed()
        else:
            await self._changed()
        # Only while nothing changes a single state is allowed: that is when what lingers is seen.
        await asyncio.sleep(self._dice.uniform(0, LINGER_S))

    async def _harmed(self) -> None:
        """Something of Ebbgate's is taken away on a node, perhaps something changes, and the wait until it is
        repaired. A node that nobody tells anything repairs nothing.
        """
        place = damage.Place(self._scene, self._dice.choice(sorted(self._state.roles)))
        before = damage.picture(place)
        command = damage.draw(self._dice, place, self._harm)
        if command is None:
            return
        log.info("on %s: %s", place.node, " ".join(command))
        place.run(*command)
        self.damages += 1
        if self._dice.random() < HARM_AND_CHANGE_SHARE:
            await self._changed()
        try:
            async with asyncio.timeout(SETTLED_WITHIN_S):
                while place.node in self._state.roles and damage.picture(place) != before:
                    await asyncio.sleep(0.1)
        except TimeoutError as error:
            raise TimeoutError(f"{' '.join(command)} on {place.node} wasn't repaired") from error

    async def _changed(self) -> None:
        """One or two changes, perhaps a kill, and the wait until all nodes have followed."""
        drawn = changes.draw(self._dice, self._state, next(self._numbers))
        victim = self._dice.choice(list(self._scene.processes)) if self._dice.random() < KILL_SHARE else ""
        dead_before = self._dice.random() < 0.5
        began_ns = time.time_ns()
        if victim and dead_before:
            self._kill(victim)
        final = self._publish(drawn)
        if victim and not dead_before:
            await asyncio.sleep(self._dice.uniform(0, KILL_WITHIN_S))
            self._kill(victim)
        if victim:
            self._scene.start(victim)
        before, self._state = self._state, final
        await self.settle()
        self._note(before, drawn, began_ns)

    async def settle(self) -> None:
        """Returns when the state is known, considered, planned and applied everywhere. A node that says what
        it couldn't do may still be as before.
        """
        state = self._state
        await self._until(lambda seen: objects.known(seen, state), "its facts on the bus")
        generation = self._scene.source.apply(objects.fence(next(self._fences)))
        await self._until(lambda seen: _judged(seen, generation), "a later policy judged")
        await self._until(
            lambda seen: objects.planned(seen, state) and _applied(seen, state), "its rows applied"
        )

    def _publish(self, drawn: Sequence[changes.Change]) -> world.State:
        state = self._state
        for change in drawn:
            after = change.of(state)
            log.info(change.text)
            objects.publish(self._scene, state, after)
            state = after
        self.changes += len(drawn)
        return state

    def _kill(self, name: str) -> None:
        self._scene.processes[name].kill()
        self.kills += 1
        lost = name == lab.BUS and self._losses.random() < LOSS_SHARE
        if lost:
            self._scene.lose_store()
        log.info("kill %s%s", name, ", and its store is lost" if lost else "")

    def _note(self, before: world.State, drawn: Sequence[changes.Change], began_ns: int) -> None:
        """The old state ends now; of the new ones, in any order of arrival, all but the last do too."""
        end_ns = time.time_ns() + judge.GRACE_NS
        self.periods[-1] = msgspec.structs.replace(self.periods[-1], end_ns=end_ns)
        text = "; ".join(change.text for change in drawn)
        for state in _between(before, drawn):
            self.periods.append(judge.Period(began_ns, end_ns, state, f"a part of: {text}"))
        self.periods.append(judge.Period(began_ns, judge.FOREVER_NS, self._state, text))

    async def _until(self, holds: Callable[[observer.Observer], bool], what: str) -> None:
        last = self.periods[-1].text
        await self._watching.until(holds, what=f"{what} (after {last})", within_s=SETTLED_WITHIN_S)


def _between(before: world.State, drawn: Sequence[changes.Change]) -> Iterator[world.State]:
    """States in which some of the changes have arrived and others haven't, or one by half."""
    yield from (change.half(before) for change in drawn if change.half)
    for count in range(1, len(drawn)):
        for some in itertools.combinations(drawn, count):
            state = before
            for change in some:
                state = change.of(state)
            yield state


def _applied(seen: observer.Observer, state: world.State) -> bool:
    nodes = state.roles
    return seen.obeyed(*nodes) and not any(seen.applied(node).problems for node in nodes)


def _judged(seen: observer.Observer, generation: int) -> bool:
    verdict = seen.verdict(objects.FENCE)
    return verdict is not None and verdict.generation >= generation


async def _captured(scene: lab.Lab, hunter: Hunter, seconds: float) -> capture.Capture:
    """Steps for so long, and what arrived outside meanwhile."""
    path = scene.folder / "packets"
    recording = _start(scene, "capture", "external", f"{MODULE}.capture", str(path))
    try:
        await _said(recording, capture.READY)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            await hunter.step()
    finally:
        recording.stop()
    return capture.read(path)


@contextmanager
def _sending(scene: lab.Lab) -> Iterator[None]:
    started = [_start(scene, "answer", "external", f"{MODULE}.traffic", "answer")]
    try:
        for number, place in enumerate(world.PODS):
            started.append(
                _start(scene, f"send-{place.name}", place.name, f"{MODULE}.traffic", "send", str(number))
            )
        yield
        assert all(process.running for process in started), "a client died: see its log"
    finally:
        for process in started:
            process.kill()


@asynccontextmanager
async def _observing(scene: lab.Lab) -> AsyncIterator[observer.Observer]:
    bus, watching = await scene.observe()
    try:
        yield watching
    finally:
        watching.stop()
        await bus.close()


def _start(scene: lab.Lab, name: str, place: str, module: str, *arguments: str) -> processes.Process:
    command = processes.module(module, *arguments)
    process = processes.Process(name, command, log=scene.folder / f"{name}.log", netns=scene.netns(place))
    process.start()
    return process


async def _said(process: processes.Process, word: str) -> None:
    async with asyncio.timeout(SETTLED_WITHIN_S):
        while word not in process.log.read_text():
            await asyncio.sleep(0.01)
