"""What is known, to be asked about: from the bus (FACT, PLAN, STATUS) or from manifests.

Both give an inventory and what PLAN holds, so that a question has one answer wherever the facts come from.
What can't be read is left out and named; it never keeps the rest from being answered.
"""

import pathlib
from collections.abc import Iterable

import msgspec

from ebbgate_bus.contracts import codec, facts, rows, streams, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.contracts.message import Message
from ebbgate_bus.runtime import connection
from ebbgate_cli import live, plan
from ebbgate_resolver.core import inventory
from ebbgate_resolver.core.plan import held

SETTING = "setting"
"""The source of cluster rows that come from the resolver's setting, which only it knows."""


class Scene(msgspec.Struct, frozen=True):
    """`facts`: by subject. `setting`: CIDRs that are never steered, as the resolver was told. `troubles`: one
    line each.
    """

    facts: dict[str, Message]
    known: inventory.Inventory
    held: held.Held
    setting: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()


def from_messages(stored: Iterable[Stored]) -> Scene:
    """Facts, rows and reports mixed; tombstones are passed by."""
    seen: dict[str, Message] = {}
    known, plan_, troubles = inventory.Inventory(), held.Held(), []
    for message in stored:
        if not message.payload or message.subject == subjects.FACT_WRITER:
            continue
        try:
            decoded = codec.decode(message.subject, message.payload)
            plan_.put(message.subject, message.payload)
        except codec.Undecodable as error:
            troubles.append(str(error))
            continue
        known.fold(message.subject, decoded)
        if message.subject.startswith(f"{subjects.ROOT}.fact.") and not isinstance(decoded, facts.Gone):
            seen[message.subject] = decoded
    return Scene(seen, known, plan_, _setting(plan_), tuple(troubles))


def _setting(plan_: held.Held) -> tuple[str, ...]:
    found = (
        codec.decode(s, p) for s, p in sorted(plan_.rows.items()) if f"{subjects.ALL_SCOPE}.cluster." in s
    )
    return tuple(row.cidr for row in found if isinstance(row, rows.Cluster) and row.source == SETTING)


async def read(bus: connection.Bus) -> Scene:
    """Raises live.Unreachable."""
    root = subjects.ROOT
    return from_messages(
        [
            *await live.read(bus, streams.FACT, f"{root}.fact.>", f"{root}.synced.>"),
            *await live.read(bus, streams.PLAN, f"{root}.plan.>"),
            *await live.read(bus, streams.STATUS, f"{root}.status.>"),
        ]
    )


def from_folder(path: pathlib.Path) -> Scene:
    """As if the cluster consisted of these manifests, and every node had done what it was told."""
    loaded = plan.load(plan.contents([path]))
    stage = loaded.stage
    held_ = held.Held()
    for subject, payload in stage.resolver.live_rows.items():
        held_.put(subject, payload)
    for scope, commit in stage.resolver.commits.items():
        held_.put(subjects.commit(scope), codec.encode(commit))
    return Scene(dict(stage.facts), stage.known, held_, (), loaded.troubles)
