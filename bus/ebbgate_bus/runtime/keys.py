"""Ed25519 keys of the bus: made, and used to sign what nats-server asks to be signed.

`cryptography` is imported only by whoever has a key: programmers in Kubernetes have tokens, and its 10 MB are
a tenth of theirs.
"""

import base64

from ebbgate_bus.contracts import nkeys


def make(kind: nkeys.Kind) -> str:
    """The seed of a new key."""
    from cryptography.hazmat.primitives.asymmetric import ed25519

    return nkeys.encode_seed(kind, ed25519.Ed25519PrivateKey.generate().private_bytes_raw())


class Key:
    """Raises nkeys.Unreadable for a seed that isn't one."""

    def __init__(self, seed: str) -> None:
        from cryptography.hazmat.primitives.asymmetric import ed25519

        self.kind, raw = nkeys.decode_seed(seed.strip())
        self._private = ed25519.Ed25519PrivateKey.from_private_bytes(raw)

    @property
    def public(self) -> str:
        return nkeys.encode_public(self.kind, self._private.public_key().public_bytes_raw())

    def sign(self, what: bytes) -> bytes:
        return self._private.sign(what)

    def signature(self, nonce: str) -> bytes:
        """As CONNECT wants it."""
        return base64.b64encode(self.sign(nonce.encode()))


def verify(public: str, signature: bytes, what: bytes) -> bool:
    """Raises nkeys.Unreadable."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ed25519

    _, raw = nkeys.decode_public(public)
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(raw).verify(signature, what)
    except InvalidSignature:
        return False
    return True
