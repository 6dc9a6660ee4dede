"""`ebbgate bugreport`: whatever fails, there is an archive with the rest; no secret gets into it."""

import io
import os
import pathlib
import re
import subprocess
import sys
import tarfile
from typing import Any

import msgspec
import pytest

from ebbgate_bus.contracts import codec, facts, subjects
from ebbgate_bus.contracts.envelope import Outgoing
from ebbgate_bus.runtime import connection, publisher

DEAD = "nats://127.0.0.1:9"
KUBECTL = r"""#!/bin/sh
# As kubectl does: the first pod without an earlier container ends it, unless errors are to be ignored.
case "$* " in
  *" events "*) echo 'error: You must be logged in to the server' >&2; exit 1;;
  "logs "*--ignore-errors*--previous*) echo 'error: previous terminated container not found'; echo died;;
  "logs "*--previous*) echo 'Error: previous terminated container not found' >&2; exit 1;;
  "logs "*) cat "$0.log";;
  *) echo "$1 $2";;
esac
"""
LOG = r"""{"event":"env","value":"OTEL_EXPORTER_OTLP_HEADERS=api-key=planted-1"}
{"msg":"{\"password\":\"planted-2\"}"}
Authorization: Basic planted-3=
nats://alice:planted/4@bus:4222
bad bytes, and the end"""
SPEC = (
    b'{"selectors":[{"podSelector":{"matchLabels":{"token":"planted-5","app":"kept"}}}],"passwd":"planted-6"}'
)


def report(*arguments: str, env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "ebbgate_cli", "bugreport", *arguments]
    return subprocess.run(command, capture_output=True, check=False, env=os.environ | (env or {}))


def opened(packed: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        return {
            name.partition("/")[2]: (archive.extractfile(name) or io.BytesIO()).read().decode()
            for name in archive.getnames()
        }


@pytest.fixture
def kubectl(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    program = tmp_path / "bin/kubectl"
    program.parent.mkdir()
    program.write_text(KUBECTL)
    program.chmod(0o755)
    program.with_name("kubectl.log").write_bytes(LOG.encode() + b"\xff\n")
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program


@pytest.mark.usefixtures("kubectl")
async def test_planted_secrets_are_not_in_the_archive(server: Any, bus: connection.Bus) -> None:
    send = publisher.Publisher(bus)
    await send.start()
    policy = facts.Policy(name="p", uid="u", generation=1, spec=msgspec.Raw(SPEC))
    await send.publish([Outgoing(subjects.fact("policy", "p"), codec.encode(policy))])
    url = server.url.replace("//", "//alice:planted@0@")
    done = report("--logs", "ebbgate", "--file", "-", env={"EBBGATE_NATS_URL": url})
    assert done.returncode == 0, done.stderr
    parts = opened(done.stdout)
    assert "kept" in parts["streams/FACT.jsonl"]
    assert "bad bytes, and the end" in parts["logs/now.txt"]
    told = "\n".join(parts.values())
    assert re.findall(r".*planted.*", told) == []
    assert told.count("[redacted]") >= 6


@pytest.mark.usefixtures("kubectl")
def test_without_a_bus_the_rest_is_there(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "report.tar.gz"
    done = report("--logs", "ebbgate", "--file", str(target), "--nats", DEAD)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{target}: 7 files, 0.0 MB, 2 of them about".encode())
    assert b"nothing of the bus is in the archive: no answer from NATS at nats://127.0.0.1:9" in done.stderr
    parts = opened(target.read_bytes())
    assert parts.keys() == {
        *("version.json", "bus.failed.txt", "kubernetes/pods.txt", "kubernetes/policies.yaml"),
        *("kubernetes/events.failed.txt", "logs/now.txt", "logs/before.txt"),
    }
    assert "no answer from NATS" in parts["bus.failed.txt"]
    assert "logged in" in parts["kubernetes/events.failed.txt"]
    assert "died" in parts["logs/before.txt"], "pods after the first without an earlier container"


async def test_a_stream_that_is_missing_says_so(server: Any, bus: connection.Bus) -> None:
    await bus.jetstream().delete_stream("PLAN")
    done = report("--file", "-", "--nats", server.url, "--logs", "ebbgate", env={"PATH": "/nowhere"})
    assert done.returncode == 0, done.stderr
    parts = opened(done.stdout)
    assert "stream not found" in parts["streams/PLAN.info.failed.txt"]
    assert {"status.json", "streams/FACT.jsonl", "streams/JOURNAL.jsonl"} <= parts.keys()
    assert parts["kubernetes.failed.txt"] == "there is no kubectl here\n"


def test_a_place_that_cannot_be_written_is_said_at_once(tmp_path: pathlib.Path) -> None:
    done = report("--file", str(tmp_path / "none/report.tar.gz"), "--nats", DEAD)
    assert done.returncode == 2
    assert b"can't be written (No such file or directory); another place: --file" in done.stderr
    assert b"NATS" not in done.stderr
    full = report("--file", "/dev/full", "--nats", DEAD)
    assert full.returncode == 2
    assert b"can't be written (No space left on device)" in full.stderr
