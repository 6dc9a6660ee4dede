"""Nkeys as text: round-trips, and what isn't one is named without being shown."""

import pytest

from ebbgate_bus.contracts import nkeys
from ebbgate_bus.contracts.nkeys import Kind
from ebbgate_bus.runtime import keys

# Of the nkeys that nats-server's documentation shows: a user's public key.
PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


def test_a_public_key_of_the_server_s_own_making_is_read_and_written_again() -> None:
    kind, raw = nkeys.decode_public(PUBLIC)
    assert (kind, len(raw)) == (Kind.USER, 32)
    assert nkeys.encode_public(kind, raw) == PUBLIC


@pytest.mark.parametrize(("kind", "letters"), [(Kind.USER, "SU"), (Kind.ACCOUNT, "SA")])
def test_a_seed_comes_back_and_begins_with_what_it_is(kind: Kind, letters: str) -> None:
    seed = keys.make(kind)
    assert seed.startswith(letters)
    assert len(seed) == 58
    assert nkeys.encode_seed(*nkeys.decode_seed(seed)) == seed
    assert keys.Key(f"{seed}\n").public.startswith(letters[1])


def test_a_signature_is_of_its_key_and_text_alone() -> None:
    one, other = keys.Key(keys.make(Kind.USER)), keys.Key(keys.make(Kind.USER))
    signed = one.sign(b"nonce")
    assert keys.verify(one.public, signed, b"nonce")
    assert not keys.verify(other.public, signed, b"nonce")
    assert not keys.verify(one.public, signed, b"other")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "checksum"),
        ("!", "base 32"),
        ("é", "base 32"),
        (PUBLIC[:-1] + "5", "checksum"),
        (PUBLIC, "begins with S"),
        (nkeys._text(bytes([nkeys.SEED_PREFIX | 1, 0]) + bytes(32)), "neither"),
        (nkeys.encode_seed(Kind.USER, bytes(31)), "31 bytes"),
    ],
)
def test_what_isnt_a_seed_is_refused(text: str, reason: str) -> None:
    with pytest.raises(nkeys.Unreadable, match=reason) as refused:
        nkeys.decode_seed(text)
    assert len(text) < 5 or text not in str(refused.value)
