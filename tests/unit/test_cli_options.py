"""What says how to reach the bus: before the command, after it, or in the environment."""

import pathlib

import pytest
from typer.testing import CliRunner

from ebbgate_bus.runtime import access
from ebbgate_cli import __main__ as cli
from ebbgate_cli import live

ASKING = [name for name, *_ in cli.COMMANDS if name not in ("plan", "test", "bugreport")]
ARGUMENTS = {"explain": ["default/a", "192.0.2.1"], "simulate": ["--delete", "policy/p"]}


@pytest.fixture(autouse=True)
def _no_contexts(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """So that `context:NAME` fails at once, with its name."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.mark.parametrize("command", ASKING)
@pytest.mark.parametrize(
    ("environment", "before", "after", "meant"),
    [
        ("env", "", "", "env"),
        ("env", "before", "", "before"),
        ("env", "", "after", "after"),
        ("env", "before", "after", "after"),
        ("", "before", "", "before"),
    ],
)
def test_the_nearest_to_the_command_counts(
    command: str, environment: str, before: str, after: str, meant: str
) -> None:
    def said(name: str) -> list[str]:
        return ["--nats", f"context:{name}"] if name else []

    env = {"EBBGATE_NATS_URL": f"context:{environment}"} if environment else {}
    arguments = [*said(before), command, *ARGUMENTS.get(command, []), *said(after)]
    told = CliRunner().invoke(cli.app, arguments, env=env)
    assert f"there is no NATS context {meant}:" in told.stderr
    assert told.exit_code == 2


@pytest.mark.parametrize("flag", ["--nats-nkey", "--nats-token", "--nats-creds"])
def test_who_one_is_may_be_said_on_either_side_but_once(flag: str) -> None:
    other = "--nats-creds" if flag != "--nats-creds" else "--nats-nkey"
    told = CliRunner().invoke(cli.app, [flag, "one", "list", other, "two"])
    assert told.exit_code == 2
    assert "can't be two" in told.output
    for alone in ([flag, "one", "list"], ["list", flag, "one"], [flag, "one", "list", flag, "two"]):
        told = CliRunner().invoke(cli.app, [*alone, "--nats", "context:none"])
        assert "there is no NATS context none" in told.stderr


@pytest.mark.parametrize("arguments", [["--nats-nkey", "FILE", "status"], ["status", "--nats-nkey", "FILE"]])
def test_who_one_is_on_the_command_line_wins_over_the_environment(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[access.Access] = []

    def run(reach: access.Access, work: object) -> None:
        said.append(reach)
        raise live.Unreachable("as far as here")

    monkeypatch.setattr(live, "run", run)
    environment = {"EBBGATE_NATS_TOKEN": "token", "EBBGATE_NATS_CREDS": "creds"}
    assert CliRunner().invoke(cli.app, arguments, env=environment).stderr == "as far as here\n"
    assert said == [access.Access(nkey=pathlib.Path("FILE"))]
    told = CliRunner().invoke(cli.app, ["status"], env=environment)
    assert (told.exit_code, "can't be two" in told.output) == (2, True)
    del environment["EBBGATE_NATS_CREDS"]
    CliRunner().invoke(cli.app, ["status"], env=environment)
    assert said[1:] == [access.Access(token=pathlib.Path("token"))]


def test_h_is_help() -> None:
    for arguments in ([], ["list"], ["plan"]):
        short, long = (CliRunner().invoke(cli.app, [*arguments, flag]) for flag in ("-h", "--help"))
        assert (short.exit_code, short.output) == (0, long.output)
        assert "Usage:" in short.output
    assert "Exit codes: 0 all is well, 1" in CliRunner().invoke(cli.app, ["-h"]).output
