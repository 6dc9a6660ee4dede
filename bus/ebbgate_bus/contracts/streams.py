"""The streams, as data. They are the state: each keeps the last message of every subject.

`republish` sends each stored message on to `ebbgate.v1.live.…`, which is what programmers and taps follow: a
plain subscription to the subjects themselves would also see what the stream then refuses.
"""

import msgspec

from ebbgate_bus.contracts import subjects

TOMBSTONE_TTL = "1h"
"""How long "this row is absent" stays readable; a freed slot isn't used again before it ran out."""
MAX_PAYLOAD = 4 * 1024 * 1024
MAX_BATCH = 1000
"""Messages of one atomic batch (the server's limit)."""


class Stream(msgspec.Struct, frozen=True):
    name: str
    subjects: tuple[str, ...]


FACT = Stream("FACT", (f"{subjects.ROOT}.fact.>", f"{subjects.ROOT}.synced.>"))
PLAN = Stream("PLAN", (f"{subjects.ROOT}.plan.>",))
STATUS = Stream(
    "STATUS", (f"{subjects.ROOT}.status.>", f"{subjects.ROOT}.verdict.>", f"{subjects.ROOT}.stats.>")
)
STREAMS = (FACT, PLAN, STATUS)


def api_config(stream: Stream, *, replicas: int = 1) -> dict[str, object]:
    """The body of JetStream's STREAM.CREATE / STREAM.UPDATE for `stream`."""
    return {
        "name": stream.name,
        "subjects": list(stream.subjects),
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "max_msgs_per_subject": 1,
        "num_replicas": replicas,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "allow_atomic": True,
        "allow_rollup_hdrs": False,
        "duplicate_window": 1_000_000_000,
        "republish": {"src": f"{subjects.ROOT}.>", "dest": f"{subjects.LIVE}.>"},
        "consumer_limits": {},
        "max_consumers": 100_000,
    }
