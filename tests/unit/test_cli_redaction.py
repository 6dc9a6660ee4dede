"""What looks like a secret doesn't get into a bug report; what doesn't stays as it is."""

import pytest

from ebbgate_cli import redaction

SEED = "SU" + "A2" * 28
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("at nats://alice:hunter2@10.0.0.1:4222 now", "alice:hunter2"),
        ("Authorization: Bearer abcdefgh12345678", "abcdefgh12345678"),
        (f"token {TOKEN} refused", TOKEN),
        (f"seed {SEED}.", SEED),
        ("-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----", "MHc"),
        ('{"password":"correct horse"}', "correct"),
    ],
)
def test_a_secret_is_taken_out(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in redaction.redact(text)
    assert redaction.REDACTED in redaction.redact(text)


@pytest.mark.parametrize(
    "text", ["nats://127.0.0.1:4222", "10.168.60.100 by node2", "default/mediabot", "SUSPENDED", "a@b"]
)
def test_what_is_none_stays(text: str) -> None:
    assert redaction.redact(text) == text
