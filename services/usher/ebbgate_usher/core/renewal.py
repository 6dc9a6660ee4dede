"""What of the credentials is due: which authority signs, what is made anew, what may go. PURE.

A rotation must never have a client that doesn't yet trust what a server shows. Files in pods change minutes
after their Secret does, so each step waits until the one before has settled:

| step | authorities in the bundle | server's certificate by |
|---|---|---|
| before | old | old |
| 1. a new authority is made | new, old | old |
| 2. it has settled | new, old | new |
| 3. that has settled, too | new | new |

Each run does what is due, so that a run a day, or two by hand with a pause between, go through all of it.
"""

import msgspec

DAY_S = 86_400
SETTLE_S = 3_600
AUTHORITY_DAYS, SERVER_DAYS = 3_650, 365


class Certificate(msgspec.Struct, frozen=True):
    """`issuer`: id of the authority that signed it. Times in seconds since 1970."""

    id: str
    issuer: str
    since_s: float
    until_s: float
    names: tuple[str, ...] = ()


class Due(msgspec.Struct, frozen=True):
    """`authority`: make a new one. `server`: make a certificate, signed by `signer`. `keep`: authorities that
    stay in the bundle. `signer` empty: the new one, as there is no other.
    """

    authority: bool
    server: bool
    signer: str
    keep: tuple[str, ...]


def due(
    authorities: tuple[Certificate, ...],
    server: Certificate | None,
    names: tuple[str, ...],
    *,
    now_s: float,
    settle_s: float = SETTLE_S,
    rotate: bool = False,
) -> Due:
    """`authorities`: newest first."""
    alive = tuple(each for each in authorities if each.until_s > now_s)
    fresh = rotate or not alive or _is_late(alive[0], now_s)
    settled = [each for each in alive if now_s - each.since_s >= settle_s]
    # A new one signs at once if clients know nothing else; later, if they may know only an older one.
    signers = settled or alive[-1:]
    signer_id = signers[0].id if signers else ""
    stays = (
        server is not None
        and not rotate
        and server.issuer == signer_id
        and set(server.names) == set(names)
        and not _is_late(server, now_s)
    )
    kept = alive
    if stays and server is not None and now_s - server.since_s >= settle_s:
        kept = alive[: [each.id for each in alive].index(signer_id) + 1]
    return Due(fresh, not stays, signer_id, tuple(each.id for each in kept))


def _is_late(certificate: Certificate, now_s: float) -> bool:
    """In the last third of its life."""
    return now_s > certificate.until_s - (certificate.until_s - certificate.since_s) / 3


class KnownKey(msgspec.Struct, frozen=True):
    """A public nkey that servers accept, and since when it is used."""

    public: str
    since_s: float


def keys_kept(known: tuple[KnownKey, ...], *, now_s: float, settle_s: float) -> tuple[KnownKey, ...]:
    """`known`: newest first. Once the newest has settled it is the only one."""
    return known[:1] if known and now_s - known[0].since_s >= settle_s else known
