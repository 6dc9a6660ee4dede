"""What looks like a secret doesn't get into a bug report; what doesn't stays as it is."""

import json

import pytest

from ebbgate_cli import redaction

SEED = "SU" + "A2" * 28
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl"
NOTED = json.dumps({"password": 'hunt"er2', "user": "alice"})
"""JSON in a line of JSON, in another."""
LOGGED = json.dumps({"msg": NOTED, "level": "info"})
FORMS = [
    ("at nats://alice:hunter2@10.0.0.1:4222 now", "at nats://***@10.0.0.1:4222 now"),
    ("nats://alice:hun/ter2@bus:4222", "nats://***@bus:4222"),
    ("nats://alice:hun@ter2@bus:4222", "nats://***@bus:4222"),
    ("nats://a:hunter2@one,tls://a:hunter2@two", "nats://***@one,tls://***@two"),
    ("alice:hunter2@bus:4222", "***@bus:4222"),
    ("Authorization: Bearer hunter2", "Authorization: ***"),
    ("Authorization: Basic aHVudGVyMg==", "Authorization: ***"),
    ('{"msg":"Authorization: Basic aHVudGVyMg==","b":1}', '{"msg":"Authorization: ***","b":1}'),
    ("{'Authorization': 'Basic hunter2', 'b': 1}", "{'Authorization': '***', 'b': 1}"),
    ("BEARER hunter2hunter2", "BEARER ***"),
    ("by basic aHVudGVyMg==", "by basic ***"),
    (f"bad {TOKEN} refused", "bad *** refused"),
    (f"key {SEED}.", "key ***."),
    ("-----BEGIN EC PRIVATE KEY-----\nhunter2\n-----END EC PRIVATE KEY-----\nmore", "***\nmore"),
    ("-----BEGIN PRIVATE KEY-----\nhunter2", "***"),
    ("token: hunter2", "token: ***"),
    ("bad token: hunter2 is expired", "bad token: *** is expired"),
    ("secret=hunter2 next", "secret=*** next"),
    ("passwd: hunter2", "passwd: ***"),
    ("[pod/a/b] DB_PASSWORD: hunter2 and hunter3", "[pod/a/b] DB_PASSWORD: ***"),
    ("password='a hunter2' next", "password='***' next"),
    ('password="a hunter2', 'password="***"'),
    ("PASSWORD=hun,ter;2&3 next", "PASSWORD=*** next"),
    ("password: |\n  hunter2\n  hunter3\nnext: 1", "password: ***\nnext: 1"),
    ("clientSecret => hunter2", "clientSecret => ***"),
    ("client-key-data: aHVudGVyMg==", "client-key-data: ***"),
    ("https://a/b?access_token=hunter2", "https://a/b?access_token=***"),
    ("OTEL_EXPORTER_OTLP_HEADERS=api-key=hunter2,x=hunter2", "OTEL_EXPORTER_OTLP_HEADERS=***"),
    ('"headers":{"x-team":"hunter2"},"b":1', '"headers":"***","b":1'),
    ('{"password":"correct \\"hunter2"}', '{"password":"***"}'),
    ('{"token": "hunter2", "b": 1}', '{"token": "***", "b": 1}'),
    ('{"token":4711,"b":1}', '{"token":"***","b":1}'),
    ('{"secrets":["hunter2"],"b":1}', '{"secrets":"***","b":1}'),
    (r"{\"password\":\"hunter2\",\"b\":1}", r"{\"password\":\"***\",\"b\":1}"),
    (LOGGED, json.dumps({"msg": json.dumps({"password": "***", "user": "alice"}), "level": "info"})),
    ('{"name":"DB_PASSWORD","value":"hunter2"}', '{"name":"DB_PASSWORD","value":"***"}'),
    ("- name: API_KEY\n  value: hunter2\n", "- name: API_KEY\n  value: ***\n"),
    ("run --password hunter2 --fast", "run --password *** --fast"),
    ('["--api-key", "hunter2", "--fast"]', '["--api-key", "***", "--fast"]'),
]


@pytest.mark.parametrize(("text", "left"), FORMS)
def test_a_secret_is_taken_out_and_nothing_else(text: str, left: str) -> None:
    assert redaction.redact(text) == left.replace("***", redaction.REDACTED)


def test_all_of_them_in_one_text_as_well() -> None:
    apart = "\n\n".join(text for text, _ in FORMS if "\n" not in text)
    together = "\n\n".join(left for text, left in FORMS if "\n" not in text)
    # The form with no end to its quotation ends with its line.
    assert redaction.redact(apart) == together.replace("***", redaction.REDACTED)


@pytest.mark.parametrize(
    "text",
    [
        *("nats://127.0.0.1:4222", "nats://a:4222,nats://b:4222", "10.168.60.100 by node2"),
        *("default/mediabot", "SUSPENDED", "a@b", "09:15:00.123  fact.pod  default/a"),
        *("token_review_seconds 2", "token_review_seconds: 2", "the token ends", "a bypass: yes"),
        *('{"token":null,"password":""}', "secretName: ebbgate-nats-ca", 'secret "nats" not found'),
        *("image ebbgate/bus:1.0@sha256:00ff", "the basic understanding", "password=", "headers: none"),
        *(
            "the files of --nats-nkey, --nats-token or --nats-creds",
            "compass: north",
            "- name: a\n  value: b",
        ),
    ],
)
def test_what_is_none_stays(text: str) -> None:
    assert redaction.redact(text) == text
