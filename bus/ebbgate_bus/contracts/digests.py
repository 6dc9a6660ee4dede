"""Do two sides hold the same rows? A digest that doesn't depend on order and follows single changes.

Digest of a scope: the sum modulo 2^64 of a 64-bit BLAKE2b of subject and payload of each live row. It guards
against loss and mixing, not against an attacker, who could write the Commit as well.
"""

import hashlib
from collections.abc import Mapping

MODULUS = 1 << 64


def of_row(subject: str, payload: bytes) -> int:
    """A row's share of its scope's digest; 0 for an absent row (empty payload)."""
    if not payload:
        return 0
    key = hashlib.blake2b(subject.encode(), digest_size=8, key=b"ebbgate")
    key.update(b"\0")
    key.update(payload)
    return int.from_bytes(key.digest(), "big")


def of_rows(live_rows: Mapping[str, bytes]) -> int:
    """`live_rows`: subject → payload, Commits left out."""
    return sum(of_row(subject, payload) for subject, payload in live_rows.items()) % MODULUS


def replace(digest: int, subject: str, old: bytes, new: bytes) -> int:
    """The digest after one row changed from `old` to `new` (empty: absent)."""
    return (digest - of_row(subject, old) + of_row(subject, new)) % MODULUS


def text(digest: int) -> str:
    return f"{digest:016x}"


def short_hash(*parts: str) -> str:
    """A 64-bit name (16 hex digits) for a list of texts; order counts, and so do the borders between them."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def bucket(text_: str, buckets: int) -> int:
    """A number below `buckets`, evenly spread and the same everywhere."""
    return int.from_bytes(hashlib.blake2b(text_.encode(), digest_size=8).digest(), "big") % buckets
