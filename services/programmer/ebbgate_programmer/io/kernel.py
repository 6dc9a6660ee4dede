"""The kernel of one node: read whole as a KernelState, changed by one Change at a time.

Puts the fingers together and adds nothing: which changes, and in which order, is `core/changes`. What a
change needs and a KernelState can't hold (descriptors, remembered settings) is looked up here at its time.
"""

import contextlib
import functools
import logging
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from ebbgate_bus.contracts import facts
from ebbgate_programmer.core import (
    changes,
    connections,
    decisions,
    firewall,
    firewall_reading,
    kernelstate,
    layout,
    lowering,
    marks,
    places,
    sharded,
    touching,
    traffic,
)
from ebbgate_programmer.io import (
    attachments,
    bpf,
    conntrack,
    counts,
    departures,
    interfaces,
    maps,
    network,
    nft,
    nftsets,
    nfttables,
    objects,
    readings,
    surroundings,
    sysctls,
)

_NOTHING = kernelstate.KernelState()
log = logging.getLogger(__name__)


class Refused(Exception):
    """A change that the kernel wouldn't make, with the reason in words."""


class Kernel:
    """In the network namespace of the thread that made it, and only to be used by that thread. `attach`,
    `direct`: as the settings.
    """

    def __init__(
        self,
        pin_path: pathlib.Path,
        source: pathlib.Path,
        *,
        attach: str = places.AUTO,
        direct: str = places.AUTO,
    ) -> None:
        self.pins = objects.Pins(pin_path)
        self.attachments = attachments.Attachments(self.pins, attach)
        self.source = source
        self._direct_wish = direct
        self.network = network.Network()
        self._guards: dict[str, int] = {}
        self._readings = readings.Readings()
        self.departures = departures.Departures()

    def close(self) -> None:
        self.network.close()

    def environment(self, node: str, port: int) -> lowering.Environment:
        return surroundings.read(
            node=node,
            port=port,
            object_hash=objects.object_hash(self.source),
            direct=self._direct_wish,
        )

    def interfaces(self) -> tuple[facts.Interface, ...]:
        return interfaces.read()

    def read(
        self, settings: Iterable[str] = (), wanted: kernelstate.KernelState = _NOTHING
    ) -> kernelstate.KernelState:
        """All that is ours. `settings`: the sysctls somebody wants to know of. What is as it is `wanted`
        becomes the same objects. Raises objects.Foreign.
        """
        self.pins.check()
        loaded, have_maps = self.pins.loaded(), self.pins.have_maps()
        tables = self._tables(wanted)
        self._guards = tables.guards
        return kernelstate.KernelState(
            device=self.network.read_device(),
            loaded=loaded,
            programs=loaded if self.attachments.is_attached(self.network.index()) else "",
            others=self.pins.others(),
            guarded=frozenset(filter(None, map(self.network.name, self.attachments.guarded()))),
            direct=self._direct() if have_maps else 0,
            sysctls={path: sysctls.read(path) for path in settings},
            rules=self.network.read_rules(),
            ways=self.network.read_ways(self.pins.program_id("classify") if loaded else 0),
            chains=tables.chains,
            covered=tables.covered,
            cluster=tables.cluster,
            egress=tables.egress,
            uplinks=tables.uplinks,
            **{part.value: self._map(part, wanted) for part in maps.PARTS if have_maps},
        )

    def _direct(self) -> int:
        """Port of the tunnel with a direct way; -1 if the way leads to a device that is gone."""
        with bpf.opened(self.pins.path("direct")) as descriptor:
            device, port = layout.unpack_direct(bpf.look_up(descriptor, layout.FIRST, layout.DIRECT.size))
        return 0 if not device else port if device == self.network.index() else -1

    def read_parts(
        self, before: kernelstate.KernelState, touched: touching.Touched, wanted: kernelstate.KernelState
    ) -> kernelstate.KernelState:
        """`before`, with what is `touched` as it is now."""
        try:
            read = {part.value: self._part(part, wanted) for part in touched.parts}
            if touched.pods:
                covered = nftsets.covered_of(touched.pods)
                read["covered"] = sharded.ShardedSet.of(before.covered).changed(covered, touched.pods)
                with bpf.opened(self.pins.path("endpoint")) as descriptor:
                    held = maps.endpoints_of(descriptor, touched.pods)
                read["endpoints"] = sharded.Sharded.of(before.endpoints).changed(held, touched.pods)
        except nftsets.Disagreeing:
            return self.read(wanted.sysctls, wanted)
        return msgspec.structs.replace(before, **read)

    def _tables(self, wanted: kernelstate.KernelState) -> firewall_reading.Read:
        listing = nfttables.read()
        return self._readings.of(
            "tables",
            readings.fingerprint(listing.parts()),
            lambda: firewall_reading.parse(list(nfttables.objects(listing))),
            lambda read: msgspec.structs.replace(read, covered=readings.like(wanted.covered)(read.covered)),
        )

    def _part(self, part: touching.Part, wanted: kernelstate.KernelState) -> object:
        if part in maps.PARTS:
            return self._map(part, wanted)
        return readings.like(getattr(wanted, part.value))(_SETS[part]())

    def _map(self, part: touching.Part, wanted: kernelstate.KernelState) -> Any:
        name, take_apart = maps.PARTS[part]
        with bpf.opened(self.pins.path(name)) as descriptor:
            held = bpf.dump(descriptor)
        return self._readings.of(
            name,
            readings.fingerprint((held.keys, held.values)),
            lambda: take_apart(held.pairs()),
            readings.like(getattr(wanted, part.value)),
        )

    def apply(self, change: changes.Change) -> changes.Refusals:
        """Entries of the change that the kernel wouldn't take; the others it has. Raises Refused."""
        try:
            return _apply(change, self) or ()
        except (bpf.Refused, network.Refused, nft.Refused, nftsets.Refused, objects.Unloadable) as error:
            raise Refused(str(error)) from error
        except OSError as error:
            raise Refused(f"{type(change).__name__}: {error}") from error

    def counted(self, slots: Iterable[int]) -> traffic.Counted:
        """What was counted since the maps were made, summed over CPUs; `slots`: those to be asked for. The
        guards' counters are those of the last `read`.
        """
        if not self.pins.have_maps():
            return traffic.Counted()
        return counts.read(self.pins, slots, self._guards)

    def forget_traffic(self, keys: Iterable[traffic.Key]) -> None:
        counts.forget(self.pins, keys)

    def clean(self) -> None:
        """Nothing of ours afterwards; guards last, so that nothing leaks on the way."""
        with contextlib.suppress(bpf.Refused):
            for path, value in self._remembered():
                with contextlib.suppress(OSError):
                    sysctls.write(path, value)
        for rule in self.network.read_rules():
            self.network.remove_rule(rule)
        self.network.remove_ways()
        self.network.remove_device()
        self.attachments.remove()
        self.pins.remove()
        nft.remove()

    def _remembered(self) -> Iterator[tuple[str, str]]:
        for key, value in self.pins.entries("remembered").items():
            name = key.rstrip(b"\0").decode()
            yield places.rp_filter(name), str(layout.REMEMBERED.unpack(value)[0])

    def remember(self, path: str) -> None:
        """Keeps the value that `path` has, unless an older one is kept: what `clean` gives back."""
        name = path.split("/")[-2].encode()
        key = layout.REMEMBERED_KEY.pack(name)
        with bpf.opened(self.pins.path("remembered")) as descriptor:
            if key not in bpf.entries(descriptor):
                bpf.put(descriptor, key, layout.REMEMBERED.pack(int(sysctls.read(path) or 0)))


_SETS: dict[touching.Part, Callable[[], object]] = {
    touching.Part.COVERED: nftsets.covered,
    touching.Part.EGRESS: nftsets.egress,
    touching.Part.UPLINKS: nftsets.uplinks,
}
"""How to read one part by itself that nft's sets hold."""


@functools.singledispatch
def _apply(change: changes.Change, kernel: Kernel) -> changes.Refusals | None:
    raise AssertionError(f"no way to apply {change}")


@_apply.register
def _(change: changes.SetFirewall, kernel: Kernel) -> None:
    nft.apply(change.script + firewall.update((), kernel.departures.all_()))


@_apply.register
def _(change: changes.UpdateSets, kernel: Kernel) -> None:
    added = kernel.departures.lacking(change.added)
    try:
        _update(changes.UpdateSets((*change.removed, *departures.known(added)), added))
        kernel.departures.note(added, written=True)
    except (nft.Refused, nftsets.Refused) as error:
        if not departures.is_full(error):
            raise
        # It is for a few last packets: no change waits for it.
        _update(changes.UpdateSets(change.removed, departures.without(added)))
        kernel.departures.note(added, written=False)
        log.warning("left.full", extra={"fields": {"reason": str(error), "size": firewall.MAX_ENDPOINTS}})


def _update(change: changes.UpdateSets) -> None:
    if nftsets.takes((*change.removed, *change.added)):
        nftsets.update(change.removed, change.added)
    else:
        nft.apply(change.script)


@_apply.register
def _(change: changes.SetDevice, kernel: Kernel) -> None:
    kernel.network.set_device(change.device, replace=change.replace)


@_apply.register
def _(change: changes.LoadPrograms, kernel: Kernel) -> None:
    objects.load(kernel.pins, kernel.source)


@_apply.register
def _(change: changes.AttachPrograms, kernel: Kernel) -> None:
    kernel.attachments.attach(kernel.network.index())


@_apply.register
def _(change: changes.RemoveLayouts, kernel: Kernel) -> None:
    kernel.pins.remove_layouts(change.names)


@_apply.register
def _(change: changes.SetGuards, kernel: Kernel) -> None:
    kernel.attachments.guard(filter(None, map(kernel.network.index, change.interfaces)))


@_apply.register
def _(change: changes.SetDirect, kernel: Kernel) -> None:
    device = kernel.network.index() if change.port else 0
    with bpf.opened(kernel.pins.path("direct")) as descriptor:
        bpf.put(descriptor, layout.FIRST, layout.pack_direct(device, change.port))


@_apply.register
def _(change: changes.SetSysctl, kernel: Kernel) -> None:
    if change.path != places.rp_filter(places.DEVICE):
        kernel.remember(change.path)
    sysctls.write(change.path, change.value)


@_apply.register
def _(change: changes.AddWay, kernel: Kernel) -> None:
    if not change.way.program:
        kernel.network.add_way(change.way)
        return
    with bpf.opened(kernel.pins.path("classify")) as program:
        kernel.network.add_way(change.way, (program, bpf.program_id(program)))


@_apply.register
def _(change: changes.RemoveWay, kernel: Kernel) -> None:
    kernel.network.remove_way(change.way)


@_apply.register
def _(change: changes.AddRule, kernel: Kernel) -> None:
    kernel.network.add_rule(change.rule)


@_apply.register
def _(change: changes.RemoveRule, kernel: Kernel) -> None:
    kernel.network.remove_rule(change.rule)


@_apply.register
def _(change: changes.Put, kernel: Kernel) -> changes.Refusals:
    pairs = maps.packed(change)
    with bpf.opened(kernel.pins.path(change.map.value)) as descriptor:
        return tuple((change.entries[place][0], why) for place, why in bpf.put_all(descriptor, pairs))


@_apply.register
def _(change: changes.Drop, kernel: Kernel) -> None:
    keys = maps.packed_keys(change)
    with bpf.opened(kernel.pins.path(change.map.value)) as descriptor:
        bpf.remove_all(descriptor, keys)


@_apply.register
def _(change: changes.ForgetPods, kernel: Kernel) -> None:
    found = conntrack.of_sources(change.pods)
    if not found:
        return
    before, after = decisions.Tables(change.before), decisions.Tables(change.after)
    conntrack.remove(
        [entry for entry in found if not connections.survives(before, after, entry.source, entry.destination)]
    )


@_apply.register
def _(change: changes.ForgetStale, kernel: Kernel) -> None:
    found = conntrack.of_sources(change.pods)
    for field in (marks.STEERED, marks.LOCAL):
        found += conntrack.of_mark(marks.mark_of(field), marks.MASK, without=change.pods)
    if not found:
        return
    tables = decisions.Tables(change.held)
    conntrack.remove(
        [
            entry
            for entry in found
            if connections.is_stale(tables, (entry.source, entry.destination), marks.field_of(entry.mark))
        ]
    )


@_apply.register
def _(change: changes.ForgetSlots, kernel: Kernel) -> None:
    for slot in change.slots:
        conntrack.remove(conntrack.of_mark(marks.mark_of(slot), marks.MASK))
