"""What was read of the kernel last, part by part: what looks as it did then isn't taken apart again.

A node's kernel holds for hours what it holds, and most of a look at it was to make texts of bytes. Kept is a
fingerprint of the bytes and what was made of them, nothing of it twice: what equals what is wanted becomes
the very same objects, so that comparing both costs nothing.
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from ebbgate_programmer.core import sharded

ValueT = TypeVar("ValueT")


def fingerprint(parts: Iterable[bytes]) -> bytes:
    """Of bytes in their order; with the length of each, so that the borders between them count."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


class Readings:
    """By name of the part."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[bytes, object]] = {}

    def of(
        self, part: str, seen: bytes, make: Callable[[], ValueT], share: Callable[[ValueT], ValueT]
    ) -> ValueT:
        """What `make` makes of the bytes whose fingerprint is `seen`, or made of the same before. `share`:
        gives an equal value that others hold too, or the value itself.
        """
        known, value = self._known.get(part, (b"", None))
        value = share(cast(ValueT, value) if known == seen else make())
        self._known[part] = (seen, value)
        return value


def like(wanted: ValueT) -> Callable[[ValueT], ValueT]:
    """To share `wanted` where it is what was read; of large tables also parts of it."""

    def share(value: ValueT) -> ValueT:
        if isinstance(value, sharded.Sharded | sharded.ShardedSet):
            return cast(ValueT, value.like(cast(Any, wanted)))
        return wanted if value == wanted else value

    return share
