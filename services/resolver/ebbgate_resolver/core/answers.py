"""What the core answers when it can't do what was asked: values with reasons, never log lines.

`Rejected` is a policy unusable by itself; `Note` is for the shell's log. `Refusal` carries a Rejected up
through a parser and never leaves `policies.parse`.
"""

import msgspec


class Rejected(msgspec.Struct, frozen=True):
    """`field`: path in the object, as in `spec.selectors[0].podSelector`. `reason`: what to do about it."""

    field: str
    reason: str


class Note(msgspec.Struct, frozen=True):
    """One change of state worth a log line. `event`: `noun.past_participle`."""

    event: str
    fields: dict[str, str] = {}


class Refusal(Exception):
    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.rejected = Rejected(field, reason)


def note(event: str, **fields: object) -> Note:
    return Note(event, {key: str(value) for key, value in fields.items()})
