"""Secrets out of a text, before somebody sends it away. Pure.

Nothing of ours writes one into a log or onto the bus; this is for what users and other programs have put
there. A secret is known by its form (a JWT, a seed, the user of an address) or by the name it goes by, in
JSON, in JSON inside of JSON, YAML, Python, environments and command lines. Where a secret ends isn't always
to be seen: then more is taken than it, never less.
"""

import re

REDACTED = "[redacted]"

_NAMES = (
    r"(?:(?<![a-z])pass|password|passwd|passphrase|passcode|pwd|token|secret|credential"
    r"|(?:api|access|client|private|secret)[-_]?key)s?(?:[-_](?:data|value|hash|\d+))?"
)
"""Ends of names: `DB_PASSWORD`, `clientSecret`, but not `secretName` or `token_review_seconds`."""
_LINES = r"(?:authorization|(?<![a-z])headers|cookie)"
"""Whatever stands behind these until the end of the line is theirs: `Basic …`, `api-key=…,other=…`."""
_QUOTE = r"\\*[\"']"
"""As deep in other strings as it may be."""
_STOP = rf"(?!{_QUOTE}\s*(?:[}}\])]|,\s*{_QUOTE}|$))"
"""Before the end of a string around all of it, which stays, so that a line of JSON does."""
_QUOTED = r"(?P<open>\\*[\"'])(?P<quoted>.*?)(?:(?<!\\)(?P=open)|$)"
_BESIDE = rf"\s*,?\s*(?:{_QUOTE})?value(?P<q>{_QUOTE})?[ \t]*:"
"""How Kubernetes writes a variable: `{"name": "DB_PASSWORD", "value": …}`, or both in YAML."""
_NOTHING = r"(?:null|none|true|false)\b(?![-+/=.])"


def _named(names: str, bare: str) -> re.Pattern[str]:
    """`name=…` and the like: a string, a list or an object in one piece, a YAML block, or `bare`."""
    return re.compile(
        rf"""(?imx)
        (?P<name>{names} (?P<key>{_QUOTE})? (?: [ \t]*(?:=>|:=|[:=]) | {_BESIDE} )[ \t]*+)
        (?!{_NOTHING})
        (?: {_QUOTED}
          | (?P<whole>\{{[^{{}}\n]+\}} | \[[^\[\]\n]+\] | [|>][-+]?[ \t]*(?:\n[ \t]+[^\n]*)+)
          | (?P<item>(?(key)(?![\[{{])[^\s,}}\]]+|(?(q)(?![\[{{])[^\s,}}\]]+|{bare})))
        )"""
    )


_YAML = re.compile(rf"(?im)^((?:\[[^\]\n]*\] )?[ \t-]*[\w.-]*{_NAMES}:[ \t]+)(?![\"'\[{{|>]|{_NOTHING})\S.*$")
"""On a line of its own a value may have blanks in it."""
_BY_NAME = (
    _named(_LINES, rf"(?:{_STOP}[^\n])+"),
    _named(_NAMES, rf"(?:{_STOP}\S)+"),
)
_BY_FORM = (
    # From :// to the last @ of this address: a password may have / and @ in it.
    re.compile(r"(?<=://)(?:(?!://)[^\s\"])+(?=@)"),
    # An address without a scheme; a tag and the digest of an image look like one.
    re.compile(r"(?<![\w:/.%+@-])[\w.%+-]{1,200}:(?!//)[^\s\"'@]{1,200}(?=@(?!sha256:)[\w\[])"),
    re.compile(r"(?i)(?<=\bbearer )[\w.~+/=-]{8,}"),
    re.compile(r"(?i)(?<=\bbasic )(?=[a-z+/]*[\d=])[a-z\d+/]{8,}=*"),
    re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"),  # a JWT
    re.compile(r"\bS[NCOAUX][A-Z2-7]{56}\b"),  # the seed of an nkey
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    # Of a command line; the options of ours that end so name files.
    re.compile(
        rf"(?i)(?<![\w-])(?P<before>--(?!nats-)[\w-]*?{_NAMES}(?:{_QUOTE},\s*{_QUOTE}|[ \t]+))"
        r"[^\s\"'-][^\s\"']*"
    ),
)


def redact(text: str) -> str:
    for pattern in _BY_FORM:
        text = pattern.sub(_unnamed, text)
    text = _YAML.sub(rf"\1{REDACTED}", text)
    for pattern in _BY_NAME:
        text = pattern.sub(_value, text)
    return text


def _unnamed(found: re.Match[str]) -> str:
    return found.groupdict().get("before", "") + REDACTED


def _value(found: re.Match[str]) -> str:
    """In quotes where its name is in some, so that JSON stays JSON."""
    if found["open"]:
        return found["name"] + found["open"] + (REDACTED if found["quoted"] else "") + found["open"]
    around = found["key"] or found["q"] or ""
    return f"{found['name']}{around}{REDACTED}{around}"
