"""Addresses of the bus: what is shown of them has no password in it, and what can't be read is said."""

import argparse
import asyncio
import contextlib
import pathlib

import pytest

from ebbgate_bus.runtime import access, metrics, vitals
from ebbgate_bus.runtime.access import Access

SECRET = "hun"
SHOWN = [
    ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
    ("nats://a:1,b:2,tls://c:3", "nats://a:1,b:2,tls://c:3"),
    ("nats://u:hunter2@a:1", "nats://a:1"),
    ("nats://u:hun/ter2@a:1", "nats://a:1"),
    ("nats://u:hun@ter2@a:1", "nats://a:1"),
    ("nats://u:hun/@ter2@a:1,tls://v:hun@/ter2@b:2", "nats://a:1,tls://b:2"),
    ("nats://u:hun,ter2@a:1", "nats://a:1"),
    ("nats://u:hun://ter2@a:1", "nats://a:1"),
    ("u:hun://ter2@a:1", "a:1"),
    ("u:hunter2@a:1", "a:1"),
    ("nats://u:hunter2", "nats://…"),
    ("nats://u:hun,nats://ter2@a:1", "nats://…,nats://a:1"),
    ("nats://a:1,u:hunter2", "nats://…"),
    ("[::1]:4222", "[::1]:4222"),
    ("context:prod", "context:prod"),
    ("kubectl:ebbgate", "kubectl:ebbgate"),
    ("kubectl:", "kubectl:"),
]


@pytest.mark.parametrize(("url", "shown"), SHOWN)
def test_of_an_address_no_password_is_shown(url: str, shown: str) -> None:
    assert Access(url=url).shown == shown


@pytest.mark.parametrize(
    "url", ["nats://u:hun/ter2@a", "nats://u:hun,ter2@a", "u:hun#ter2@a", "nats://[hun@a"]
)
def test_an_address_that_cannot_be_read_is_named_without_its_password(url: str) -> None:
    with pytest.raises(access.Unusable, match="can't be read: in a user or a password, /, @ and the") as said:
        assert not Access(url=url).servers
    assert SECRET not in str(said.value)


@pytest.mark.parametrize("url", ["a", "a:1,b", "nats://u:hun%2Fter2@a:1,tls://[::1]:2", "nats://u:h@r@a/"])
def test_an_address_is_that_of_servers(url: str) -> None:
    assert Access(url=url).servers == url.split(",")


def test_who_one_is_on_the_command_line_wins_over_the_environment(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def reach(environment: dict[str, str], *arguments: str) -> Access:
        parser = argparse.ArgumentParser()
        access.add_options(parser, environment)
        return access.chosen(parser, parser.parse_args(arguments))

    token = {"EBBGATE_NATS_TOKEN": "token", "EBBGATE_NATS_CA": "ca"}
    ca, nkey = pathlib.Path("ca"), pathlib.Path("key")
    assert reach(token, "--nats-nkey", "key") == Access(ca=ca, nkey=nkey)
    assert reach(token) == Access(ca=ca, token=pathlib.Path("token"))
    assert reach(token, "--nats-token", "other") == Access(ca=ca, token=pathlib.Path("other"))
    for two in (({}, "--nats-nkey", "a", "--nats-token", "b"), (token | {"EBBGATE_NATS_NKEY": "key"},)):
        with pytest.raises(SystemExit):
            reach(*two)
        assert "can't be two" in capsys.readouterr().err


def test_help_has_no_password_in_it() -> None:
    parser = argparse.ArgumentParser()
    access.add_options(parser, {"EBBGATE_NATS_URL": "nats://u:hun%2Fter2@bus%41:4222"})
    assert SECRET not in parser.format_help()
    assert "nats://bus%41:4222" in parser.format_help()
    assert parser.parse_args([]).nats == "nats://u:hun%2Fter2@bus%41:4222"


async def test_a_service_that_nobody_lets_in_says_that_it_shows_a_token(tmp_path: pathlib.Path) -> None:
    """For the alert that no usher is there, which is most of all about one that never was."""
    own = vitals.Vitals("resolver")
    trying = asyncio.create_task(
        own.connect(Access(url="nats://127.0.0.1:1", token=tmp_path / "t"), name="r")
    )
    await asyncio.sleep(0)
    assert metrics.one(vitals.TOKEN, 1) in list(own.measured())
    trying.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await trying
