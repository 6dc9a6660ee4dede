"""What the watcher may be told, and what makes no sense."""

import pathlib

import pytest

from ebbgate_bus.runtime import options
from ebbgate_watcher import settings
from ebbgate_watcher.core import lease


def test_by_default_it_is_a_pod_of_two_that_serves_nothing() -> None:
    chosen = settings.parse_settings([], {})
    assert (chosen.source, chosen.kubeconfig, chosen.health) == ("kubernetes", None, None)
    assert (chosen.lease, chosen.terms) == (("ebbgate", "ebbgate-watcher"), lease.Terms(15.0, 10.0, 2.0))


def test_options_win_over_the_environment() -> None:
    env = {
        "EBBGATE_LEASE": "a/b",
        "EBBGATE_LEASE_DURATION": "30",
        "EBBGATE_HEALTH_PORT": "8080",
        "EBBGATE_HEALTH_BIND": "::1",
    }
    chosen = settings.parse_settings(["--lease", "c/d"], env)
    assert (chosen.lease, chosen.terms.duration_s) == (("c", "d"), 30.0)
    assert chosen.health == options.HealthAddress("::1", 8080)


def test_who_is_alone_needs_no_lease() -> None:
    assert settings.parse_settings(["--lease", ""], {}).lease is None
    chosen = settings.parse_settings(["--source", "directory", "--path", "x"], {})
    assert (chosen.lease, chosen.path) == (None, pathlib.Path("x"))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--source", "directory"], "needs --path"),
        (["--lease", "name-alone"], "NAMESPACE/NAME"),
        (["--lease-duration", "5"], "must exceed"),
        (["--lease-retry-period", "0"], "must exceed"),
        (["--health-port", "x"], "not a port"),
    ],
)
def test_what_makes_no_sense_is_said(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        settings.parse_settings(arguments, {})
    assert complaint in capsys.readouterr().err
