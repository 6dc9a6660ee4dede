"""The streams, as data. Three are the state: each keeps the last message of every subject.

`republish` sends each stored message on to `ebbgate.v1.live.…`, which is what programmers and taps follow: a
plain subscription to the subjects themselves would also see what the stream then refuses. JOURNAL keeps what
was said there for a while, so that a tap can tell what has just happened; nobody depends on it. It takes
messages from the streams' stores, under the names of `live`: what is republished still has the headers of its
batch and fence, and a stream refuses what is fenced on another. Those of one stream are in its order; of two
streams what was stored within milliseconds may be the other way round.
"""

import msgspec

from ebbgate_bus.contracts import subjects

TOMBSTONE_TTL = "1h"
"""How long "this row is absent" stays readable; a freed slot isn't used again before it ran out."""
MAX_PAYLOAD = 4 * 1024 * 1024
MAX_BATCH = 1000
"""Messages of one atomic batch (the server's limit)."""
OLDEST_SERVER = (2, 12, 1)
"""The first nats-server whose atomic batches can be fenced: 2.12.0 refuses them (measured)."""


class Stream(msgspec.Struct, frozen=True):
    name: str
    subjects: tuple[str, ...]


FACT = Stream("FACT", (f"{subjects.ROOT}.fact.>", f"{subjects.ROOT}.synced.>"))
PLAN = Stream("PLAN", (f"{subjects.ROOT}.plan.>",))
STATUS = Stream(
    "STATUS", (f"{subjects.ROOT}.status.>", f"{subjects.ROOT}.verdict.>", f"{subjects.ROOT}.stats.>")
)
STATE = (FACT, PLAN, STATUS)
JOURNAL = Stream(
    "JOURNAL", tuple(f"{subjects.LIVE}.{kind}.>" for kind in ("fact", "synced", "plan", "status", "verdict"))
)
"""Without counters of traffic: they would push out what somebody may look for."""
JOURNAL_S, JOURNAL_BYTES = 3600, 256 * 1024 * 1024
STREAMS = (*STATE, JOURNAL)


def of(subject: str) -> Stream | None:
    """Where a message of `subject` is stored."""
    for stream in STREAMS:
        if any(subject.startswith(pattern.removesuffix(">")) for pattern in stream.subjects):
            return stream
    return None


def too_old(version: str) -> str:
    """Why a nats-server of `version` can't be used, or empty."""
    numbers = tuple(int(part) for part in version.partition("-")[0].split(".") if part.isdecimal())
    if len(numbers) < len(OLDEST_SERVER) or numbers >= OLDEST_SERVER:
        return ""
    oldest = ".".join(map(str, OLDEST_SERVER))
    return f"nats-server {version} is too old to fence atomic batches: {oldest} or newer is needed"


def api_config(stream: Stream, *, replicas: int = 1) -> dict[str, object]:
    """The body of JetStream's STREAM.CREATE / STREAM.UPDATE for `stream`."""
    return {
        "name": stream.name,
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "num_replicas": replicas,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "allow_rollup_hdrs": False,
        "duplicate_window": 1_000_000_000,
        "consumer_limits": {},
        "max_consumers": 100_000,
    } | ({"subjects": list(stream.subjects)} | _STATE if stream in STATE else _JOURNAL)


_STATE: dict[str, object] = {
    "max_msgs_per_subject": 1,
    "allow_atomic": True,
    "republish": {"src": f"{subjects.ROOT}.>", "dest": f"{subjects.LIVE}.>"},
}


def _source(stream: Stream) -> dict[str, object]:
    """What JOURNAL takes from `stream`."""
    said = [(pattern, subjects.live(pattern)) for pattern in stream.subjects]
    kept = [{"src": pattern, "dest": live} for pattern, live in said if live in JOURNAL.subjects]
    return {"name": stream.name, "subject_transforms": kept}


_JOURNAL: dict[str, object] = {
    "max_age": JOURNAL_S * 1_000_000_000,
    "max_bytes": JOURNAL_BYTES,
    "sources": [_source(stream) for stream in STATE],
}
