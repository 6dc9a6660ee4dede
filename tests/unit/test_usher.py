"""The usher's cores: whose a token is, how questions are read and answered, what is due."""

import base64
from typing import Any

import msgspec
import pytest

from ebbgate_bus.contracts.permissions import Principal, Role
from ebbgate_bus.runtime import options
from ebbgate_usher import settings
from ebbgate_usher.core import claims, renewal, tokens
from ebbgate_usher.core.renewal import Certificate, Due, KnownKey
from ebbgate_usher.core.tokens import Rejected, Review, User

AUDIENCE = "bus"
ACCOUNTS = {"e/watcher": Role.WATCHER, "e/programmer": Role.PROGRAMMER}


def review(name: str, *nodes: str, **changes: Any) -> Review:
    user = User(f"system:serviceaccount:e:{name}", {tokens.NODE: nodes} if nodes else {})
    return Review(**({"authenticated": True, "user": user, "audiences": (AUDIENCE,)} | changes))


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        (review("watcher"), Principal(Role.WATCHER)),
        (review("watcher", "n"), Principal(Role.WATCHER)),
        (review("programmer", "n"), Principal(Role.PROGRAMMER, "n")),
        (review("programmer"), "isn't bound"),
        (review("programmer", "n", "m"), "isn't bound"),
        (review("nobody"), "nobody on this bus"),
        (review("watcher", user=User("e/watcher")), "nobody on this bus"),
        (review("watcher", audiences=()), "audience bus"),
        (review("watcher", authenticated=False, error="why"), "(why)"),
        (review("watcher", authenticated=False), "no reason given"),
    ],
)
def test_a_token_is_its_account_s(given: Review, outcome: Principal | str) -> None:
    found = tokens.judge(given, ACCOUNTS, audience=AUDIENCE)
    if isinstance(outcome, Principal):
        assert found == outcome
    else:
        assert isinstance(found, Rejected)
        assert outcome in found.reason


def jwt(body: object) -> bytes:
    return b"h." + claims.encoded(msgspec.json.encode(body)) + b".s"


ASKED = {"server_id": {"id": "N1", "name": "s"}, "user_nkey": "UX", "connect_opts": {"auth_token": "t"}}


def test_a_question_is_read_and_answered_for_its_server_and_connection() -> None:
    asked = claims.question(jwt({"nats": ASKED}))
    assert (asked.connect_opts.auth_token, asked.user_nkey) == ("t", "UX")
    accepted = body(claims.answer(asked, "JWT", issuer="A", now_s=5) + b".s")
    assert (accepted["aud"], accepted["sub"], accepted["iss"], accepted["iat"]) == ("N1", "UX", "A", 5)
    assert accepted["nats"]["jwt"] == "JWT"
    assert len(accepted["jti"]) == 52
    refused = body(claims.answer(asked, Rejected("no"), issuer="A", now_s=5) + b".s")
    assert (refused["nats"]["error"], "jwt" in refused["nats"]) == ("no", False)


def test_a_user_gets_what_the_table_grants_until_its_token_ends() -> None:
    asked = claims.question(jwt({"nats": ASKED}))
    node = Principal(Role.PROGRAMMER, "n")
    user = body(claims.user(asked, node, issuer="A", now_s=5, expires_s=9) + b".s")
    assert (user["name"], user["exp"], user["aud"]) == ("programmer-n", 9, "EBBGATE_NODES")
    assert "ebbgate.v1.status.n" in user["nats"]["pub"]["allow"]
    reader = claims.user(asked, Principal(Role.READER), issuer="A", now_s=5, expires_s=9)
    assert body(reader + b".s")["name"] == "reader"


def body(whole: bytes) -> dict[str, Any]:
    decoded: dict[str, Any] = claims.decode_claims(whole, dict[str, Any])
    return decoded


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"a.b",
        b"a.!.c",
        b"a." + base64.urlsafe_b64encode(b"{") + b".c",
        jwt({"nats": {}}),
        b"x" * 300_000,
    ],
)
def test_what_is_no_question_is_named(text: bytes) -> None:
    with pytest.raises(claims.Unreadable):
        claims.question(text)


def test_when_a_token_ends() -> None:
    assert claims.expiry(jwt({"exp": 7}).decode()) == 7
    assert claims.expiry(jwt({}).decode()) == 0
    assert claims.expiry("opaque") == 0


DAY = renewal.DAY_S
YEAR = 365 * DAY
NAMES = ("a", "b")


def authority(id_: str, since_s: float = 0.0) -> Certificate:
    return Certificate(id_, id_, since_s, since_s + 10 * YEAR)


def server(issuer: str, since_s: float = 0.0, names: tuple[str, ...] = NAMES) -> Certificate:
    return Certificate("s", issuer, since_s, since_s + YEAR, names)


OLD, NEW = authority("old"), authority("new", 100 * DAY)
LATE = 100 * DAY + renewal.SETTLE_S


@pytest.mark.parametrize(
    ("authorities", "shown", "now_s", "due"),
    [
        ((), None, 0, Due(True, True, "", ())),
        ((OLD,), None, 10, Due(False, True, "old", ("old",))),
        ((OLD,), server("old"), 10, Due(False, False, "old", ("old",))),
        ((OLD,), server("old"), YEAR * 0.6, Due(False, False, "old", ("old",))),
        ((OLD,), server("old"), YEAR * 0.7, Due(False, True, "old", ("old",))),
        ((OLD,), server("old", names=("a",)), 10, Due(False, True, "old", ("old",))),
        ((OLD,), server("old", 6.8 * YEAR), 6.9 * YEAR, Due(True, False, "old", ("old",))),
        ((OLD,), server("old"), 11 * YEAR, Due(True, True, "", ())),
        ((NEW, OLD), server("old", 99 * DAY), 100 * DAY + 9, Due(False, False, "old", ("new", "old"))),
        ((NEW, OLD), server("old", 99 * DAY), LATE, Due(False, True, "new", ("new", "old"))),
        ((NEW, OLD), server("new", LATE), LATE + 9, Due(False, False, "new", ("new", "old"))),
        ((NEW, OLD), server("new", LATE), LATE + 3600, Due(False, False, "new", ("new",))),
    ],
)
def test_what_is_due(
    authorities: tuple[Certificate, ...], shown: Certificate | None, now_s: float, due: Due
) -> None:
    assert renewal.due(authorities, shown, NAMES, now_s=now_s) == due


def test_rotating_makes_everything_anew_and_trusts_before_it_signs() -> None:
    due = renewal.due((OLD,), server("old"), NAMES, now_s=10 * DAY, rotate=True)
    assert due == Due(True, True, "old", ("old",))


def test_old_keys_go_once_the_new_one_has_settled() -> None:
    known = (KnownKey("new", 100.0), KnownKey("old", 0.0))
    assert renewal.keys_kept(known, now_s=200, settle_s=200) == known
    assert renewal.keys_kept(known, now_s=300, settle_s=200) == known[:1]
    assert renewal.keys_kept((), now_s=300, settle_s=200) == ()


SERVE = ["serve", "--issuer", "i"]
MAKE = ["credentials", "--names", "a,b"]


def test_settings_of_each_command() -> None:
    env = {"EBBGATE_NATS_CA": "ca", "EBBGATE_NATS_NKEY": "k", "EBBGATE_HEALTH_PORT": "80"}
    chosen = settings.parse(SERVE, env)
    assert (str(chosen.reach.ca), str(chosen.reach.nkey), chosen.health) == (
        "ca",
        "k",
        options.HealthAddress("", 80),
    )
    assert chosen.accounts["ebbgate/ebbgate-programmer"] is Role.PROGRAMMER
    chosen = settings.parse([*MAKE, "--out", "d", "--nodes", "n1,n2"], {})
    assert (chosen.names, chosen.nodes) == (("a", "b"), ("n1", "n2"))
    assert settings.parse([*MAKE, "--namespace", "e"], {}).nodes is None
    assert settings.parse(["reload", "--pid-file", "p", "f"], {}).command == "reload"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([*SERVE, "--accounts", "a=watcher"], "NAMESPACE/NAME"),
        ([*SERVE, "--accounts", "a/b=king"], "watcher|resolver"),
        ([*SERVE, "--nats-nkey", "a", "--nats-token", "b"], "can't be two"),
        ([*MAKE], "required"),
        ([*MAKE, "--out", "d", "--nodes", "*"], "--nodes"),
        ([*MAKE, "--namespace", "e", "--nodes", "n"], "could be read"),
    ],
)
def test_what_makes_no_sense_is_said(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        settings.parse(arguments, {})
    assert complaint in capsys.readouterr().err
