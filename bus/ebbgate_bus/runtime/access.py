"""How to reach the bus and who one is there: the same flags and variables for every program, from here.

Secrets are files, never arguments, and each file is read anew for each connection: rotation needs no restart.
"""

import argparse
import pathlib
import re
import ssl
import urllib.parse
from collections.abc import Mapping

import msgspec
import nats.errors

from ebbgate_bus.contracts import nkeys, permissions
from ebbgate_bus.runtime import keys

URL = "nats://127.0.0.1:4222"
SECRET_BYTES = 64 * 1024

CA_HELP = (
    "certificates (PEM) of who signs the servers'; with it the connection is encrypted, or there is none"
)
NKEY_HELP = "seed of an nkey (SU…)"
TOKEN_HELP = "token, such as that of a ServiceAccount"
CREDS_HELP = (
    "credentials as NATS' own tools make them (.creds): a JWT and its key, for an account of ours alone"
)
IDENTITIES = {"nkey": NKEY_HELP, "token": TOKEN_HELP, "creds": CREDS_HELP}
"""Options that say who one is, of which one at most is given."""

_SCHEME, _NEXT = re.compile(r"^[a-z]+://"), re.compile(r",(?=[a-z]+://)")
_ELSEWHERE = re.compile(r"^(context|kubectl):[\w.-]*$")
"""Not an address, but where the command line finds one."""
_PART = re.compile(r"-----BEGIN ([A-Z ]+)-----\s*(\S+)\s*-+END")


class Unusable(nats.errors.Error):
    """A file that can't be used, or a server that isn't what was asked for; the text says which and why."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """`url`: servers, comma-separated. `server_name`: what their certificates are for, if not that address.
    The others are files, each of them optional; of IDENTITIES at most one. Who presents a key or a token gets
    the grant of its role, in an account of its role; everybody else speaks to a bus of one account.
    """

    url: str = URL
    ca: pathlib.Path | None = None
    nkey: pathlib.Path | None = None
    token: pathlib.Path | None = None
    creds: pathlib.Path | None = None
    server_name: str = ""

    @property
    def confined(self) -> bool:
        return self.nkey is not None or self.token is not None

    @property
    def shown(self) -> str:
        """The servers without what may be secret: of each what stands behind its last @, and of what is no
        address nothing. Where one ends and the next begins isn't sure without a scheme, as a password may
        have a comma: then less is shown.
        """
        return ",".join(map(_without_user, _NEXT.split(self.url)))

    @property
    def servers(self) -> list[str]:
        """Each of them. Raises Unusable, where a library would say what it can't read: perhaps a password."""
        found = self.url.split(",")
        if not all(map(_is_address, found)):
            raise Unusable(
                f"the address of NATS, '{self.shown}', can't be read: in a user or a password, /, @ and the "
                "like are written %2F, %40 …"
            )
        return found

    def grant(self, principal: permissions.Principal) -> permissions.Grant | None:
        return permissions.grant(principal) if self.confined else None


def _without_user(server: str) -> str:
    scheme = "".join(_SCHEME.findall(server))
    _, behind_user, address = server.removeprefix(scheme).rpartition("@")
    # A user and a password whose host was forgotten look like a host and a port that isn't one.
    readable = behind_user or all(map(_is_address, address.split(","))) or _ELSEWHERE.match(address)
    return scheme + (address if readable else "…")


def _is_address(server: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(server if "://" in server else f"nats://{server}")
        return bool(parts.hostname) and parts.port != 0 and parts.path in ("", "/")
    except ValueError:
        return False


def add_options(parser: argparse.ArgumentParser, env: Mapping[str, str]) -> None:
    url = env.get("EBBGATE_NATS_URL", URL)
    shown = Access(url=url).shown.replace("%", "%%")
    parser.add_argument(
        "--nats",
        default=url,
        metavar="URL",
        help=f"NATS servers, separated by commas (EBBGATE_NATS_URL; default: {shown})",
    )
    of_environment = {}
    for name, text in (("ca", CA_HELP), *IDENTITIES.items()):
        variable = f"EBBGATE_NATS_{name.upper()}"
        file = pathlib.Path(env[variable]) if env.get(variable) else None
        of_environment[name] = file
        parser.add_argument(
            f"--nats-{name}",
            default=file if name == "ca" else None,
            metavar="FILE",
            type=pathlib.Path,
            help=f"{text} ({variable})",
        )
    parser.set_defaults(nats_of_environment={name: of_environment[name] for name in IDENTITIES})


def chosen(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Access:
    """Ends the process with a message if they contradict each other."""
    try:
        return as_one(
            Access(url=given.nats, ca=given.nats_ca),
            {name: getattr(given, f"nats_{name}") for name in IDENTITIES},
            given.nats_of_environment,
        )
    except ValueError as error:
        parser.error(str(error))


Files = Mapping[str, pathlib.Path | None]


def as_one(reach: Access, said: Files, of_environment: Files) -> Access:
    """`reach` as who has one of IDENTITIES: that of the command line, or else that of the environment. Raises
    ValueError, with a text for people, if there are two.
    """
    given = {name: path for name, path in said.items() if path}
    given = given or {name: path for name, path in of_environment.items() if path}
    if len(given) > 1:
        names = " and ".join(f"--nats-{name}" for name in given)
        raise ValueError(f"{names}: one is who you are, and there can't be two")
    return msgspec.structs.replace(reach, **given)


def read_key(path: pathlib.Path) -> keys.Key:
    """Raises Unusable."""
    try:
        return keys.Key(read_secret(path))
    except nkeys.Unreadable as error:
        raise Unusable(f"{path}: {error}") from error


def read_creds(path: pathlib.Path) -> tuple[str, keys.Key]:
    """The JWT, and the key that it is for. Raises Unusable."""
    parts = dict(_PART.findall(read_secret(path)))
    try:
        return parts["NATS USER JWT"], keys.Key(parts["USER NKEY SEED"])
    except KeyError as error:
        raise Unusable(f"{path} has no {error.args[0]}: it isn't a .creds file") from error
    except nkeys.Unreadable as error:
        raise Unusable(f"{path}: {error}") from error


def read_secret(path: pathlib.Path) -> str:
    """Raises Unusable."""
    try:
        with path.open("rb") as file:
            text = file.read(SECRET_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"{path} can't be read: {getattr(error, 'strerror', None) or 'not text'}") from error
    if not text:
        raise Unusable(f"{path} is empty")
    return text


def tls_context(ca: pathlib.Path | None) -> ssl.SSLContext:
    """What servers must show: a certificate for their name, signed by one of `ca` (or of the system's).
    Raises Unusable.
    """
    try:
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
    except (OSError, ssl.SSLError) as error:
        raise Unusable(f"{ca}: no certificates can be read from it ({error.strerror or error})") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def explain(error: Exception) -> str:
    """What went wrong with a connection, and where to look, for people."""
    text = str(error) or repr(error)
    if isinstance(error, TimeoutError):
        return "the server didn't answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate(error)
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or text}"
    lower = text.lower()
    if "authorization violation" in lower:
        return (
            "the server doesn't accept our credentials (Authorization Violation): are they, in the files of "
            "--nats-nkey, --nats-token or --nats-creds, those that it knows?"
        )
    if "authentication expired" in lower or "authentication revoked" in lower:
        return f"our credentials have run out ({text}); connecting with what the files hold now"
    return text


def _certificate(error: ssl.SSLCertVerificationError) -> str:
    said = error.verify_message
    if "expired" in said:
        return f"the server's certificate isn't valid any more ({said}): rotate it"
    if "issuer" in said or "self-signed" in said or "self signed" in said:
        return f"the server's certificate is signed by nobody that --nats-ca names ({said})"
    return f"the server's certificate isn't accepted ({said})"
