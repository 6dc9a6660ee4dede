"""`ebbgate bugreport`: one archive of what is known, to send along with a question."""

import io
import json
import pathlib
import platform
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterable
from typing import Annotated

import msgspec
import typer

from ebbgate_bus.contracts import streams, subjects
from ebbgate_bus.contracts.envelope import Stored
from ebbgate_bus.runtime import connection, jetstream, service
from ebbgate_cli import lines, live, output, overview, recordings, redaction
from ebbgate_cli.commands import options, status
from ebbgate_cli.happenings import History

LOG_LINES = "5000"
FILE_MAX = 64 * 1024 * 1024
"""Characters of a file; what is more is left out, and that is said."""


def command(
    file: Annotated[
        pathlib.Path | None, typer.Option("--file", help="Where to; else ebbgate-TIME.tar.gz here.")
    ] = None,
    logs: Annotated[
        str, typer.Option(metavar="NAMESPACE", help="Add the logs of Ebbgate's pods there, by kubectl.")
    ] = "",
    nats: options.Url = options.URL,
) -> None:
    """Write what is known into one archive, to send along with a question: status, streams, what was said in
    the last hour.

    It has names and addresses of pods, nodes and policies in it; passwords, tokens and keys are taken out.
    Look through it before you send it.

    Example: `ebbgate bugreport --logs ebbgate`
    """
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    target = file or pathlib.Path(f"ebbgate-{stamp}.tar.gz")
    try:
        parts = live.run(options.access_to(nats), _gather)
    except live.Unreachable as error:
        raise options.fail(error) from error
    if logs:
        parts |= _logs(logs)
    _write(target, f"ebbgate-{stamp}", parts)
    print(f"{target}: {len(parts)} files, {target.stat().st_size / 1e6:.1f} MB")


async def _gather(bus: connection.Bus) -> dict[str, str]:
    """File → text."""
    output.complain(["listening for who is alive, and reading the streams …"], style="dim")
    seen = await status.look(bus)
    found = {
        "version.json": _json(
            {"ebbgate": service.VERSION, "python": platform.python_version(), "on": platform.platform()}
        ),
        "status.json": _pretty(overview.of(seen)),
        "seen.json": _pretty(seen),
    }
    for stream in streams.STREAMS:
        if stream.name in seen.server.missing:
            continue
        info = await jetstream.request(bus, f"STREAM.INFO.{stream.name}", {})
        found[f"streams/{stream.name}.info.json"] = _json(info)
        stored = await recordings.read(bus, stream, stream.subjects)
        found[f"streams/{stream.name}.jsonl"] = _lines(stored)
    return found


def _lines(messages: Iterable[Stored]) -> str:
    """As `ebbgate tap -o json` prints them."""
    heard = History()
    return "".join(f"{lines.as_json(heard.take(_live(message)))}\n" for message in messages)


def _live(message: Stored) -> Stored:
    return msgspec.structs.replace(message, subject=subjects.live(message.subject))


def _logs(namespace: str) -> dict[str, str]:
    """Of all containers, also of those that died; what kubectl says instead, where it can't."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        output.complain(["there is no kubectl here, so no logs"], style="yellow")
        return {}
    selected = ("-n", namespace, "-l", "app.kubernetes.io/name=ebbgate")
    asked = {
        "kubernetes/pods.txt": ("get", "pods", *selected, "-o", "wide"),
        "kubernetes/policies.yaml": ("get", "ciliumegressgatewaypolicies", "-o", "yaml"),
        "kubernetes/events.txt": ("get", "events", "-n", namespace),
        "logs/now.txt": ("logs", *selected, "--all-containers", "--prefix", f"--tail={LOG_LINES}"),
        "logs/before.txt": (
            "logs",
            *selected,
            "--all-containers",
            "--prefix",
            "--previous",
            f"--tail={LOG_LINES}",
        ),
    }
    return {name: _said(kubectl, *arguments) for name, arguments in asked.items()}


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired as error:
        return f"{error}\n"
    return done.stdout + done.stderr


def _write(target: pathlib.Path, folder: str, parts: dict[str, str]) -> None:
    with tarfile.open(target, "w:gz") as archive:
        for name, text in parts.items():
            content = redaction.redact(_cut(text)).encode()
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime = len(content), int(time.time())
            archive.addfile(entry, io.BytesIO(content))


def _cut(text: str) -> str:
    rest = len(text) - FILE_MAX
    return f"{text[:FILE_MAX]}\n[{rest} more characters]\n" if rest > 0 else text


def _pretty(value: msgspec.Struct) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
