"""What README and docs tell people to type (`pages`), who types it in a test, and what must be said then.

`tests/unit/test_docs.py` compares this with the pages: a command of theirs is in one of these tables, and
what is here is theirs still.
"""

from .shell import Said, said

_POD = r'^\{"namespace":"default","name":"a","uid":"1","node":"node1","ips":\["10\.244\.1\.10"\]\}$'
_ROW = r'^\{"ip":"10\.244\.1\.10","set":"00ff","bucket":7,"pod":"default/a"\}$'
_VERDICT = r'^\{"policy":"egress-sample","uid":"2"\}$'
_GOT_VERDICT = (r"on Subject ebbgate\.v1\.verdict\.egress-sample$", _VERDICT)
_LIVE = (
    r'Received on "ebbgate\.v1\.live\.fact\.pod\.default\.a"$',
    _POD,
    r'Received on "ebbgate\.v1\.live\.plan\.node\.node1\.endpoint\.10_244_1_10"$',
    r"^Nats-Stream: PLAN$",
    r"^traceparent: 00-",
    _ROW,
)

BUS: dict[str, Said] = {
    "nats subscribe 'ebbgate.v1.live.>'": said(*_LIVE, exits=None),
    "nats stream subjects FACT": said(r"ebbgate\.v1\.fact\.pod\.default\.a .* 1 "),
    "nats stream get STATUS --last-for ebbgate.v1.verdict.egress-sample": said(*_GOT_VERDICT),
    "nats subscribe --stream FACT --last-per-subject --terminate-at-end": said(
        r"subject: ebbgate\.v1\.fact\.pod\.default\.a ", _POD
    ),
    "nats subscribe --stream JOURNAL --since 10m --terminate-at-end": said(_POD, _ROW, _VERDICT),
    "nats subscribe --stream JOURNAL --all 'ebbgate.v1.live.plan.>'": said(
        r"seq: \d .* subject: ebbgate\.v1\.live\.plan\.node\.node1\.endpoint\.10_244_1_10 ", _ROW, exits=None
    ),
}
"""On a bus that lets everybody in: tests/bus/test_nats_tool.py."""

_NATS = "nats --tlsca bus/ca/ca.crt --nkey bus/users/reader.nk"
SECURED: dict[str, Said] = {
    f"{_NATS} subscribe 'ebbgate.v1.live.>'": said(*_LIVE, exits=None),
    f"{_NATS} --js-api-prefix ebbgate.v1.api --inbox-prefix _INBOX.reader "
    "stream get STATUS --last-for ebbgate.v1.verdict.egress-sample": said(*_GOT_VERDICT),
}
"""On one with TLS and a key for everybody, there, too."""
