"""Secrets out of a text, before somebody sends it away. Pure.

Nothing of ours writes one into a log or onto the bus; this is for what users and other programs have put
there.
"""

import re

REDACTED = "[redacted]"
_SECRETS = (
    re.compile(r"(?<=://)[^/\s@\"']+(?=@)"),  # user:password of an address
    re.compile(r"(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),  # a JWT
    re.compile(r"\bS[NCOAUX][A-Z2-7]{56}\b"),  # the seed of an nkey
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL),
    re.compile(
        r"(?i)(?<=password\":\")[^\"]+|(?<=password\": \")[^\"]+|(?<=password=)\S+|(?<=password: )\S+"
    ),
)


def redact(text: str) -> str:
    for pattern in _SECRETS:
        text = pattern.sub(REDACTED, text)
    return text
