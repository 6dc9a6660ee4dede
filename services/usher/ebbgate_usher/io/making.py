"""Credentials made and rotated, in a store: what `core.renewal` finds due, and nothing else. Idempotent.

| name | files | who needs it |
|---|---|---|
| authority | <id>.crt, <id>.key, known.json | this command alone |
| ca | ca.crt | every client |
| server | tls.crt, tls.key, ca.crt, accounts.conf | nats-server |
| usher | issuer.nk, usher.nk | the usher; with a callout |
| users | watcher.nk, …, programmer-<node>.nk | each its own; without a callout |
"""

from collections.abc import Mapping

import msgspec

from ebbgate_bus.contracts import accounts, nkeys
from ebbgate_bus.contracts.permissions import Principal, Role
from ebbgate_bus.runtime import keys
from ebbgate_usher.core import renewal
from ebbgate_usher.core.renewal import KnownKey
from ebbgate_usher.io import certificates, stores

USHER = "usher"
"""Its own key, among those known."""
Known = dict[str, tuple[KnownKey, ...]]


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """`names`: of the servers. `callout`: nodes come and go, and show tokens; else there are `nodes` only."""

    names: tuple[str, ...]
    callout: bool
    nodes: tuple[str, ...] = ()
    rotate: bool = False
    rotate_usher: bool = False
    settle_s: float = renewal.SETTLE_S


async def make(store: stores.Store, wish: Wish, now_s: float) -> list[str]:
    """What was done, for people. Raises certificates.Unreadable, nkeys.Unreadable for what is held."""
    authority = dict(await store.read("authority"))
    done: list[str] = []
    server = await _certificates(store, wish, now_s, authority, done)
    known = msgspec.json.decode(authority.get("known.json", b"{}"), type=Known)
    last = "usher" if wish.callout else "users"
    made = _Keys(await store.read(last), wish, now_s, known, done)
    files, configuration = _callout(made) if wish.callout else _users(made)
    authority["known.json"] = msgspec.json.encode(known)
    server["accounts.conf"] = configuration.encode()
    # The server first: it must know a key, and show a certificate, before anybody depends on the change.
    ca = {"ca.crt": server["ca.crt"]}
    for name, wanted in (("authority", authority), ("server", server), ("ca", ca), (last, files)):
        if dict(await store.read(name)) != wanted:
            await store.write(name, wanted)
            done.append(f"wrote {name}")
    return done


async def _certificates(
    store: stores.Store, wish: Wish, now_s: float, authority: dict[str, bytes], done: list[str]
) -> dict[str, bytes]:
    """The server's files; `authority` is brought up to date."""
    server = dict(await store.read("server"))
    pairs = _pairs(authority)
    found = sorted((certificates.describe(pair.certificate) for pair in pairs.values()), key=_age)
    shown = certificates.describe(server["tls.crt"]) if "tls.crt" in server else None
    due = renewal.due(
        tuple(found), shown, wish.names, now_s=now_s, settle_s=wish.settle_s, rotate=wish.rotate
    )
    pairs = {id_: pair for id_, pair in pairs.items() if id_ in due.keep}
    newest = ""
    if due.authority:
        made = certificates.make_authority(now_s)
        newest = certificates.describe(made.certificate).id
        pairs = {newest: made} | pairs
        done.append(f"made the authority {newest}")
    if due.server:
        pair = certificates.make_server(pairs[due.signer or newest], wish.names, now_s)
        server |= {"tls.crt": pair.certificate, "tls.key": pair.key}
        done.append(f"made the servers' certificate, by the authority {due.signer or newest}")
    for file in [name for name in authority if name.endswith((".crt", ".key"))]:
        del authority[file]
    for id_, pair in pairs.items():
        authority |= {f"{id_}.crt": pair.certificate, f"{id_}.key": pair.key}
    order = [newest, *(each.id for each in found)]
    server["ca.crt"] = b"".join(pairs[id_].certificate for id_ in order if id_ in pairs)
    return server


def _age(certificate: renewal.Certificate) -> float:
    return -certificate.since_s


def _pairs(authority: dict[str, bytes]) -> dict[str, certificates.Pair]:
    return {
        name.removesuffix(".crt"): certificates.Pair(content, authority[name.replace(".crt", ".key")])
        for name, content in authority.items()
        if name.endswith(".crt")
    }


class _Keys(msgspec.Struct):
    """User keys: as `held` has them, and as they are to be. `known` and `done` are brought up to date."""

    held: Mapping[str, bytes]
    wish: Wish
    now_s: float
    known: Known
    done: list[str]

    def seed(self, name: str, *, rotate: bool) -> bytes:
        """The seed that `name` is to have."""
        seed = self.held.get(f"{name}.nk", b"")
        if not seed or rotate:
            seed = keys.make(nkeys.Kind.USER).encode()
            self.done.append(f"made a key for {name}")
        public = keys.Key(seed.decode()).public
        before = self.known.get(name, ())
        if not before or before[0].public != public:
            before = (KnownKey(public, self.now_s), *before)
        self.known[name] = renewal.keys_kept(before, now_s=self.now_s, settle_s=self.wish.settle_s)
        return seed


def _callout(made: _Keys) -> tuple[dict[str, bytes], str]:
    """Its keys change only when they are asked to: nats-server can't reload what it knows of a callout, and
    would with that refuse to reload anything, certificates too. It must be restarted then.
    """
    rotate = made.wish.rotate_usher
    issuer = made.held.get("issuer.nk", b"")
    if not issuer or rotate:
        issuer = keys.make(nkeys.Kind.ACCOUNT).encode()
    files = {"issuer.nk": issuer, f"{USHER}.nk": made.seed(USHER, rotate=rotate)}
    made.known[USHER] = made.known[USHER][:1]
    public = [each.public for each in made.known[USHER]]
    return files, accounts.with_callout(keys.Key(issuer.decode()).public, public)


def _users(made: _Keys) -> tuple[dict[str, bytes], str]:
    """Who isn't wished for any more loses its key."""
    others = [Principal(role) for role in (Role.WATCHER, Role.RESOLVER, Role.READER)]
    principals = [*others, *(Principal(Role.PROGRAMMER, node) for node in made.wish.nodes)]
    files = {
        f"{file_name(each)}.nk": made.seed(file_name(each), rotate=made.wish.rotate) for each in principals
    }
    for name in made.known.keys() - {file_name(each) for each in principals}:
        del made.known[name]
    public = {each: [key.public for key in made.known[file_name(each)]] for each in principals}
    return files, accounts.with_users(public)


def file_name(principal: Principal) -> str:
    return f"{principal.role}-{principal.node}" if principal.node else str(principal.role)
