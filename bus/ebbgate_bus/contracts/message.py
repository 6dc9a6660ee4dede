"""The base of every message, and the version rule.

A payload without `v` is of major version 1: old readers and new ones agree on most messages without a byte
spent. Fields may be added within a major version (readers ignore what they don't know); a change of meaning
raises `v`, and a reader that doesn't know it refuses the message instead of guessing.
"""

import msgspec

MAJOR = 1


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One JSON object on the bus. `v` is the major version of its contract."""

    v: int = MAJOR
