"""Nkeys as text: an Ed25519 key with a letter that says whose it is, and a checksum, in base 32.

Public: prefix byte, 32 bytes, CRC-16 (XMODEM, little end first). Seed: the same with "this is a seed" and
the prefix packed into two bytes. The arithmetic of the keys is `runtime.keys`'; here is how they are written.
"""

import base64
import binascii
import enum

SEED_PREFIX = 18 << 3
KEY_BYTES = 32


class Kind(enum.IntEnum):
    """The prefix byte: the first letter of the text is U or A."""

    USER = 20 << 3
    ACCOUNT = 0


class Unreadable(Exception):
    """Not an nkey of the kind wanted. Never says the text itself, which may be a secret."""


def encode_public(kind: Kind, key: bytes) -> str:
    return _text(bytes([kind]) + key)


def encode_seed(kind: Kind, key: bytes) -> str:
    return _text(bytes([SEED_PREFIX | kind >> 5, (kind & 31) << 3]) + key)


def decode_public(text: str) -> tuple[Kind, bytes]:
    """Raises Unreadable."""
    raw = _raw(text)
    return _kind(raw[0]), _key(raw[1:])


def decode_seed(text: str) -> tuple[Kind, bytes]:
    """Raises Unreadable."""
    raw = _raw(text)
    if raw[0] & 0xF8 != SEED_PREFIX:
        raise Unreadable("not the seed of an nkey: one begins with S")
    return _kind((raw[0] & 7) << 5 | raw[1] >> 3), _key(raw[2:])


def _kind(prefix: int) -> Kind:
    try:
        return Kind(prefix)
    except ValueError as error:
        raise Unreadable("an nkey, but neither a user's nor an account's") from error


def _key(raw: bytes) -> bytes:
    if len(raw) != KEY_BYTES:
        raise Unreadable(f"an nkey of {len(raw)} bytes, and they have {KEY_BYTES}")
    return raw


def _text(raw: bytes) -> str:
    return base64.b32encode(raw + _checksum(raw)).decode().rstrip("=")


def _raw(text: str) -> bytes:
    try:
        whole = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError) as error:
        raise Unreadable("not an nkey: it isn't base 32") from error
    raw, checksum = whole[:-2], whole[-2:]
    if len(raw) < 2 or _checksum(raw) != checksum:
        raise Unreadable("not an nkey: its checksum is wrong")
    return raw


def _checksum(raw: bytes) -> bytes:
    return binascii.crc_hqx(raw, 0).to_bytes(2, "little")
