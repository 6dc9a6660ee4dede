"""What a source may say, and what the watcher may do about it: inputs and outputs of `mirror.step`.

A source speaks in complete lists and in single events; both end in the same comparison, so that the event
path and the restart path are the same code. `seen_ns` is the time at which the bytes behind an input arrived:
latency from event to kernel is measured from there.
"""

import msgspec

from ebbgate_bus.contracts.envelope import Outgoing, Stored
from ebbgate_watcher.core import objects


class Listed(msgspec.Struct, frozen=True, gc=False):
    """All objects of a kind that exist. `missing`: the source doesn't know the kind, hence none."""

    kind: str
    objects: tuple[objects.Observed | objects.Unusable, ...]
    seen_ns: int
    missing: bool = False


class Seen(msgspec.Struct, frozen=True, gc=False):
    """One object as it is now. Only after a Listed of its kind."""

    kind: str
    object: objects.Observed | objects.Unusable
    seen_ns: int


class Vanished(msgspec.Struct, frozen=True, gc=False):
    """This very object is gone; another one may have its name by now."""

    kind: str
    subject: str
    uid: str
    seen_ns: int


class Broken(msgspec.Struct, frozen=True, gc=False):
    """The source, or a part of it, can't be seen for now. What was seen stays in force. `origin`: what of the
    source (a kind, a file, the API server), for people and to tell one trouble from another. `part`: who
    noticed, where several share an origin: they make one trouble, which ends when it has for each.
    """

    origin: str
    reason: str
    part: str = ""


class Recovered(msgspec.Struct, frozen=True, gc=False):
    """The trouble of `origin` is over, for `part`."""

    origin: str
    part: str = ""


class Published(msgspec.Struct, frozen=True, gc=False):
    """All that FACT holds, tombstones included, read after this watcher became its writer."""

    messages: tuple[Stored, ...]


class Overtaken(msgspec.Struct, frozen=True, gc=False):
    """What FACT holds isn't known any more: another watcher writes it, or an answer is missing. Nothing is to
    be published before the next Published.
    """


class Reported(msgspec.Struct, frozen=True, gc=False):
    """What others say on the bus: nodes of themselves, the resolver of policies. `kind`: of the subjects
    (`fact.nodenetwork`, `status`, `verdict`). `replaced`: these are all there are.
    """

    kind: str
    replaced: bool
    messages: tuple[Stored, ...]


Input = Listed | Seen | Vanished | Broken | Recovered | Published | Overtaken | Reported


class Publish(msgspec.Struct, frozen=True, gc=False):
    """Store these, in this order, and wait until all are acknowledged before the next output. At most
    `mirror.BATCH` of them.
    """

    messages: tuple[Outgoing, ...]


class Discard(msgspec.Struct, frozen=True, gc=False):
    """Store these tombstones, of whichever streams they are: what they name has lost its writer."""

    messages: tuple[Outgoing, ...]


class Remark(msgspec.Struct, frozen=True, gc=False):
    """One log line: a state changed. `trouble`: for the worse."""

    event: str
    trouble: bool
    fields: dict[str, object]


Output = Publish | Discard | Remark
