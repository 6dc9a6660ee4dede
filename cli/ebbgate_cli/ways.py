"""Ways to the bus that aren't plain addresses: `kubectl:NAMESPACE`, by a port that kubectl forwards, and
`context:NAME`, as the plain `nats` tool keeps them.

Through kubectl one is whoever the cluster takes one for: who may make a token for the ServiceAccount of
readers, and read the certificate of the bus, may listen. Nothing of it is left behind.
"""

import base64
import contextlib
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
import urllib.parse
from collections.abc import Iterator

import msgspec

from ebbgate_bus.runtime import access

KUBECTL, CONTEXT = "kubectl:", "context:"
NAMESPACE, SERVICE, CA = "ebbgate", "ebbgate-nats", "ebbgate-nats-ca"
USHER, READER, AUDIENCE = "ebbgate-usher", "ebbgate-reader", "ebbgate-nats"
"""The chart's names."""
PATIENCE_S = 15.0
_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


class NoWay(Exception):
    """The text says why, and what to do."""


class Context(msgspec.Struct):
    """What of a context of the `nats` tool is understood."""

    url: str = ""
    nkey: str = ""
    ca: str = ""
    user: str = ""
    password: str = ""
    creds: str = ""
    token: str = ""
    cert: str = ""


@contextlib.contextmanager
def opened(reach: access.Access) -> Iterator[access.Access]:
    """`reach` as an address, for as long as the block runs. Raises NoWay."""
    if reach.url.startswith(KUBECTL):
        with _forwarded(reach, reach.url.removeprefix(KUBECTL) or NAMESPACE) as found:
            yield found
    elif reach.url.startswith(CONTEXT):
        yield _of_context(reach, reach.url.removeprefix(CONTEXT))
    else:
        yield reach


@contextlib.contextmanager
def _forwarded(reach: access.Access, namespace: str) -> Iterator[access.Access]:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise NoWay("there is no kubectl here; give the address of the bus: --nats nats://…")
    command = [kubectl, "-n", namespace]
    forward = [*command, "port-forward", f"service/{SERVICE}", ":4222", "--address", "127.0.0.1"]
    with (
        _ended_as_by_ctrl_c(),
        tempfile.TemporaryDirectory(prefix="ebbgate-") as folder,
        subprocess.Popen(forward, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
    ):
        try:
            port = _port(process)
            secrets = _secrets(command, pathlib.Path(folder), reach)
            name = f"{SERVICE}.{namespace}.svc"
            yield msgspec.structs.replace(reach, url=f"nats://127.0.0.1:{port}", server_name=name, **secrets)
        finally:
            process.terminate()


@contextlib.contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Whoever is told to end, or loses its terminal, leaves the block and its kubectl, too."""

    def end(number: int, _frame: types.FrameType | None) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _port(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    assert process.stderr is not None
    end = time.monotonic() + PATIENCE_S
    while select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
        line = process.stdout.readline()
        if found := _FORWARDING.match(line):
            return found[1]
        if not line:
            raise NoWay(f"kubectl can't forward a port to the bus: {process.stderr.read().strip()}")
    raise NoWay(f"kubectl forwarded no port within {PATIENCE_S:.0f} s")


def _secrets(command: list[str], folder: pathlib.Path, reach: access.Access) -> dict[str, pathlib.Path]:
    """Files with a token and the certificates to trust, where the installation has them and nobody gave
    others. The folder is its owner's alone.
    """
    found: dict[str, pathlib.Path] = {}
    asks = _said([*command, "get", "deployment", USHER, "-o", "name"])
    if asks and not (reach.nkey or reach.token or reach.creds):
        token = _said([*command, "create", "token", READER, f"--audience={AUDIENCE}", "--duration=1h"])
        found |= _written(folder / "token", token)
    if reach.ca is None:
        encoded = _said([*command, "get", "secret", CA, "-o", r"jsonpath={.data.ca\.crt}"])
        found |= _written(folder / "ca", base64.b64decode(encoded).decode() if encoded else "")
    return found


def _said(command: list[str]) -> str:
    """Empty if there is no such thing: an installation may do without. Raises NoWay otherwise."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        raise NoWay(f"{' '.join(command[3:6])}: no answer within {PATIENCE_S:.0f} s") from error
    if done.returncode == 0:
        return done.stdout
    if "not found" in done.stderr.lower():
        return ""
    raise NoWay(f"{' '.join(command[3:6])}: {done.stderr.strip()}")


def _written(path: pathlib.Path, text: str) -> dict[str, pathlib.Path]:
    if not text:
        return {}
    path.write_text(text)
    return {path.name: path}


def _of_context(reach: access.Access, name: str) -> access.Access:
    """`name` empty: the one that is selected."""
    folder = pathlib.Path(os.environ.get("XDG_CONFIG_HOME") or pathlib.Path.home() / ".config") / "nats"
    try:
        name = name or (folder / "context.txt").read_text().strip()
        found = msgspec.json.decode((folder / "context" / f"{name}.json").read_bytes(), type=Context)
    except OSError as error:
        which = name or "that is selected"
        raise NoWay(f"there is no NATS context {which}: {error.filename} can't be read") from error
    except msgspec.DecodeError as error:
        raise NoWay(f"the NATS context {name} can't be read: {error}") from error
    if not found.url or found.token or found.cert:
        raise NoWay(
            f"the NATS context {name} needs a url, and of credentials it may have nkey, creds, ca, user and "
            "password"
        )
    url = found.url
    if found.user:
        scheme, _, rest = url.rpartition("://")
        user, password = (urllib.parse.quote(part, safe="") for part in (found.user, found.password))
        url = f"{scheme or 'nats'}://{user}:{password}@{rest}"
    return msgspec.structs.replace(
        reach,
        url=url,
        nkey=pathlib.Path(found.nkey) if found.nkey else reach.nkey,
        creds=pathlib.Path(found.creds) if found.creds else reach.creds,
        ca=pathlib.Path(found.ca) if found.ca else reach.ca,
    )
