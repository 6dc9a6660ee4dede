"""Where `--nats` leads: contexts of the plain nats tool, and kubectl where there is none."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from ebbgate_bus.runtime import access
from ebbgate_cli import ways


@pytest.fixture
def contexts(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "nats"
    (folder / "context").mkdir(parents=True)
    (folder / "context.txt").write_text("prod\n")
    said = {"description": "", "url": "tls://bus:4222", "nkey": "/k", "ca": "/c", "user": "", "creds": ""}
    (folder / "context/prod.json").write_text(json.dumps(said))
    return folder / "context"


def reach(url: str, **others: pathlib.Path) -> access.Access:
    with ways.opened(access.Access(url=url, **others)) as found:
        return found


def test_an_address_is_an_address() -> None:
    assert reach("nats://a:1,nats://b:1").url == "nats://a:1,nats://b:1"


@pytest.mark.parametrize("url", ["context:prod", "context:"], ids=["named", "selected"])
def test_a_context_says_where_and_who(contexts: pathlib.Path, url: str) -> None:
    found = reach(url)
    assert (found.url, found.nkey, found.ca) == ("tls://bus:4222", pathlib.Path("/k"), pathlib.Path("/c"))


def test_a_password_goes_with_the_address_and_is_not_shown(contexts: pathlib.Path) -> None:
    (contexts / "dev.json").write_text(json.dumps({"url": "bus:4222", "user": "u", "password": "p"}))
    found = reach("context:dev", ca=pathlib.Path("/own"))
    assert (found.url, found.ca) == ("nats://u:p@bus:4222", pathlib.Path("/own"))
    assert found.shown == "nats://bus:4222"
    (contexts / "dev.json").write_text(json.dumps({"url": "bus:4222", "user": "u", "password": "p/@,"}))
    assert reach("context:dev").servers == ["nats://u:p%2F%40%2C@bus:4222"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "can't be read"),
        ("{}", "needs a url"),
        ('{"url": "bus", "cert": "/x"}', "may have nkey, creds, ca, user and password"),
        (None, "there is no NATS context bad"),
    ],
)
def test_a_context_that_cannot_be_used_says_why(
    contexts: pathlib.Path, content: str | None, words: str
) -> None:
    if content is not None:
        (contexts / "bad.json").write_text(content)
    with pytest.raises(ways.NoWay, match=words):
        reach("context:bad")


def test_without_kubectl_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ways.NoWay, match="there is no kubectl here"):
        reach("kubectl:")


def test_what_kubectl_says_is_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text("#!/bin/sh\necho 'namespaces x not found' >&2; exit 1\n")
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(ways.NoWay, match="can't forward a port to the bus: namespaces x not found"):
        reach("kubectl:x")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["told-to-end", "terminal-lost"])
def test_kubectl_does_not_outlive_whoever_started_it(tmp_path: pathlib.Path, number: signal.Signals) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        """#!/bin/sh
        case "$*" in
          *port-forward*) echo $$ > "$0.pid"; echo "Forwarding from 127.0.0.1:9 -> 4222"; exec sleep 60 ;;
          *) : > "$0.asked"; echo "not found" >&2; exit 1 ;;
        esac
        """
    )
    kubectl.chmod(0o755)
    command = [sys.executable, "-m", "ebbgate_cli", "tap", "--nats", "kubectl:"]
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        while not (tmp_path / "kubectl.asked").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
    assert process.returncode == 128 + number
    pid = int((tmp_path / "kubectl.pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
