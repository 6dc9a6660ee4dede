"""What nats-server asks about a connection, and how it is answered: claims of its JWTs, unsigned (ADR-26).

The answer's signature is an account nkey's over "header.claims"; who signs stands in `io/callout`.
"""

import base64
import binascii
import hashlib
from typing import TypeVar

import msgspec

from ebbgate_bus.contracts import permissions
from ebbgate_bus.contracts.permissions import Principal
from ebbgate_usher.core.tokens import Rejected

HEADER = b'{"typ":"JWT","alg":"ed25519-nkey"}'
REQUEST_BYTES = 256 * 1024


class Server(msgspec.Struct, frozen=True):
    id: str
    name: str = ""


class ConnectOptions(msgspec.Struct, frozen=True):
    auth_token: str = ""
    name: str = ""


class Question(msgspec.Struct, frozen=True):
    """`user_nkey`: the key that the server made for this connection; the answer is about it."""

    server_id: Server
    user_nkey: str
    connect_opts: ConnectOptions = ConnectOptions()


class _Request(msgspec.Struct, frozen=True):
    nats: Question


class Unreadable(Exception):
    """Not a question of nats-server's."""


def question(jwt: bytes) -> Question:
    """Its signature isn't looked at: in the callout's account only the server speaks. Raises Unreadable."""
    if len(jwt) > REQUEST_BYTES:
        raise Unreadable(f"{len(jwt)} bytes")
    return decode_claims(jwt, _Request).nats


def expiry(token: str) -> int:
    """Seconds since 1970 at which a token ends, of one that was found good; 0: it doesn't say."""
    try:
        return decode_claims(token.encode(), _Expiring).exp
    except Unreadable:
        return 0


class _Expiring(msgspec.Struct, frozen=True):
    exp: int = 0


ClaimsT = TypeVar("ClaimsT")


def decode_claims(jwt: bytes, kind: type[ClaimsT]) -> ClaimsT:
    parts = jwt.split(b".")
    if len(parts) != 3:
        raise Unreadable("not a JWT")
    try:
        return msgspec.json.decode(
            base64.urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4)), type=kind
        )
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise Unreadable(f"not a JWT: {error}") from error


def user(asked: Question, principal: Principal, *, issuer: str, now_s: int, expires_s: int) -> bytes:
    """The JWT, unsigned, that lets `principal` in until `expires_s`."""
    granted = permissions.grant(principal)
    nats = {
        "type": "user",
        "version": 2,
        "pub": {"allow": list(granted.publish)},
        "sub": {"allow": list(granted.subscribe)},
        "subs": -1,
        "data": -1,
        "payload": -1,
    }
    name = f"{principal.role}-{principal.node}" if principal.node else str(principal.role)
    said = {"iss": issuer, "sub": asked.user_nkey, "aud": granted.account, "name": name, "iat": now_s}
    return unsigned(said | {"exp": expires_s, "nats": nats})


def answer(asked: Question, outcome: str | Rejected, *, issuer: str, now_s: int) -> bytes:
    """`outcome`: the user's signed JWT, or why there is none. Unsigned."""
    nats: dict[str, object] = {"type": "authorization_response", "version": 2}
    nats |= {"error": outcome.reason} if isinstance(outcome, Rejected) else {"jwt": outcome}
    said = {"iss": issuer, "sub": asked.user_nkey, "aud": asked.server_id.id, "iat": now_s}
    return unsigned(said | {"nats": nats})


def unsigned(said: dict[str, object]) -> bytes:
    """`jti` is the hash of all the rest, as NATS' own tools have it."""
    digest = hashlib.sha256(msgspec.json.encode(said)).digest()
    said = said | {"jti": base64.b32encode(digest).decode().rstrip("=")}
    return encoded(HEADER) + b"." + encoded(msgspec.json.encode(said))


def encoded(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
