"""`ebbgate bugreport`: one archive of what is known, to send along with a question."""

import io
import json
import pathlib
import platform
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Coroutine, Iterable
from typing import Annotated, Any

import msgspec
import nats.errors
import typer

from ebbgate_bus.contracts import streams, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.runtime import access, connection, jetstream, service
from ebbgate_cli import lines, live, output, overview, recordings, redaction
from ebbgate_cli.commands import options, status
from ebbgate_cli.happenings import History

LOG_LINES = "5000"
FILE_MAX = 64 * 1024 * 1024
"""Characters of a file; what is more is left out, and that is said."""

FAILED = ".failed.txt"
STDOUT = pathlib.Path("-")


@options.asking
def command(
    file: Annotated[
        pathlib.Path | None,
        typer.Option("--file", help="Where to; else ebbgate-TIME.tar.gz here. `-`: standard output."),
    ] = None,
    logs: Annotated[
        str, typer.Option(metavar="NAMESPACE", help="Add the logs of Ebbgate's pods there, by kubectl.")
    ] = "",
    *,
    reach: access.Access,
) -> None:
    """Write what is known into one archive, to send along with a question: status, streams, what was said in
    the last hour.

    What can't be had is a file `….failed.txt` that says why; the rest is there. The archive has names and
    addresses of pods, nodes and policies in it; passwords, tokens and keys are taken out. Look through it
    before you send it.

    Examples: `ebbgate bugreport --logs ebbgate`,
    `kubectl -n ebbgate exec deploy/ebbgate-cli -- ebbgate bugreport --file - > report.tar.gz`

    Exit code 1 if the bus can't be reached (the archive is written without it), 2 if the archive can't be
    written.
    """
    folder = time.strftime("ebbgate-%Y%m%d-%H%M%S", time.gmtime())
    target = file or pathlib.Path(f"{folder}.tar.gz")
    if target != STDOUT:
        _write(target, b"")  # before it takes its time: is there a place?
    parts = {"version.json": _json(_version())}
    reached = True
    try:
        parts |= live.run(reach, _of_bus)
    except live.Unreachable as error:
        parts[f"bus{FAILED}"] = f"{error}\n"
        reached = False
        output.complain([f"nothing of the bus is in the archive: {error}"])
    if logs:
        parts |= _of_kubernetes(logs)
    packed = _packed(folder, parts)
    _write(target, packed)
    said = f"{target}: {len(parts)} files, {len(packed) / 1e6:.1f} MB"
    failed = sum(name.endswith(FAILED) for name in parts)
    said += f", {failed} of them about what can't be had" if failed else ""
    print(said, file=sys.stderr if target == STDOUT else sys.stdout)
    raise typer.Exit(0 if reached else 1)


def _version() -> dict[str, str]:
    return {"ebbgate": service.VERSION, "python": platform.python_version(), "on": platform.platform()}


async def _of_bus(bus: connection.Bus) -> dict[str, str]:
    """File → text."""
    output.complain(["listening for who is alive, and reading the streams …"], style="dim")
    found = await _tried("status", _status(bus))
    for stream in streams.STREAMS:
        found |= await _tried(f"streams/{stream.name}.info", _info(bus, stream))
        found |= await _tried(f"streams/{stream.name}", _messages(bus, stream))
    return found


async def _tried(name: str, asked: Coroutine[Any, Any, dict[str, str]]) -> dict[str, str]:
    """What was asked for, or why it can't be had."""
    try:
        return await asked
    except (live.Unreachable, jetstream.ApiError, nats.errors.Error, TimeoutError, OSError) as error:
        return {f"{name}{FAILED}": f"{str(error) or repr(error)}\n"}


async def _status(bus: connection.Bus) -> dict[str, str]:
    seen = await status.look(bus)
    return {"status.json": _pretty(overview.of(seen)), "seen.json": _pretty(seen)}


async def _info(bus: connection.Bus, stream: streams.Stream) -> dict[str, str]:
    info = await jetstream.request(bus, f"STREAM.INFO.{stream.name}", {})
    return {f"streams/{stream.name}.info.json": _json(info)}


async def _messages(bus: connection.Bus, stream: streams.Stream) -> dict[str, str]:
    stored = await recordings.read(bus, stream, stream.subjects)
    return {f"streams/{stream.name}.jsonl": _lines(stored)}


def _lines(messages: Iterable[Stored]) -> str:
    """As `ebbgate tap -o json` prints them."""
    heard = History()
    return "".join(f"{lines.as_json(heard.take(_live(message)))}\n" for message in messages)


def _live(message: Stored) -> Stored:
    return msgspec.structs.replace(message, subject=subjects.live(message.subject))


def _of_kubernetes(namespace: str) -> dict[str, str]:
    """Logs of all containers, also of those that died, and what is around them."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        output.complain(["there is no kubectl here, so no logs"], style="yellow")
        return {f"kubernetes{FAILED}": "there is no kubectl here\n"}
    selected = ("-n", namespace, "-l", "app.kubernetes.io/name=ebbgate")
    # Without --ignore-errors nothing is said of the pods after the first that has no log.
    logs = ("logs", *selected, "--all-containers", "--prefix", "--ignore-errors", f"--tail={LOG_LINES}")
    asked = {
        "kubernetes/pods.txt": ("get", "pods", *selected, "-o", "wide"),
        "kubernetes/policies.yaml": ("get", "ciliumegressgatewaypolicies", "-o", "yaml"),
        "kubernetes/events.txt": ("get", "events", "-n", namespace),
        "logs/now.txt": logs,
        "logs/before.txt": (*logs, "--previous"),
    }
    found: dict[str, str] = {}
    for name, arguments in asked.items():
        found |= _said(name, kubectl, *arguments)
    return found


def _said(name: str, *command: str) -> dict[str, str]:
    failed = f"{name.rpartition('.')[0]}{FAILED}"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {failed: f"{error}\n"}
    if done.returncode:
        return ({name: done.stdout} if done.stdout else {}) | {failed: done.stderr}
    return {name: done.stdout + done.stderr}


def _packed(folder: str, parts: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in parts.items():
            content = redaction.redact(_cut(text)).encode()
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime = len(content), int(time.time())
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _write(target: pathlib.Path, content: bytes) -> None:
    try:
        if target == STDOUT:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        else:
            target.write_bytes(content)
    except OSError as error:
        output.complain(
            [f"{target} can't be written ({error.strerror}); another place: --file FILE, or --file - > FILE"]
        )
        raise typer.Exit(2) from error


def _cut(text: str) -> str:
    rest = len(text) - FILE_MAX
    return f"{text[:FILE_MAX]}\n[{rest} more characters]\n" if rest > 0 else text


def _pretty(value: msgspec.Struct) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
