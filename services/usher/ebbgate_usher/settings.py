"""What the usher is told: options first, then the environment, then defaults. Read once, at start."""

import argparse
import os
import pathlib
import socket
from collections.abc import Mapping, Sequence

import msgspec

from ebbgate_bus.contracts import subjects
from ebbgate_bus.contracts.permissions import Role
from ebbgate_bus.runtime import access, options
from ebbgate_usher.core import renewal

AUDIENCE = "ebbgate-nats"
ACCOUNTS = ",".join(f"ebbgate/ebbgate-{role}={role}" for role in Role)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`accounts`: NAMESPACE/NAME of ServiceAccounts → what they are. `out`: a folder, or None for Secrets in
    `namespace`. `nodes`: None if a callout is to be asked.
    """

    command: str
    name: str = ""
    reach: access.Access = access.Access()
    issuer: pathlib.Path = pathlib.Path()
    audience: str = AUDIENCE
    accounts: dict[str, Role] = {}
    api: tuple[str, str, str] = ("", "", "")
    health: options.HealthAddress | None = None
    names: tuple[str, ...] = ()
    out: pathlib.Path | None = None
    namespace: str = ""
    nodes: tuple[str, ...] | None = None
    rotate: bool = False
    rotate_usher: bool = False
    settle_s: float = renewal.SETTLE_S
    pid_file: pathlib.Path = pathlib.Path()
    files: tuple[pathlib.Path, ...] = ()


def parse(arguments: Sequence[str] | None = None, env: Mapping[str, str] = os.environ) -> Settings:
    """Exits with a message for people if they don't make sense."""
    parser = argparse.ArgumentParser("ebbgate-usher", description="Says who is who on the bus.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="answer nats-server's questions about who connects, for ever")
    make = commands.add_parser(
        "credentials",
        help="make what is missing of keys and certificates, and what is due anew",
        description="Makes keys and certificates for the bus, in Secrets or a folder; each run does what is "
        "due, and nothing if nothing is. Example: ebbgate-usher credentials --out bus --names localhost "
        "--nodes node1,node2",
    )
    reload_ = commands.add_parser("reload", help="tell nats-server by SIGHUP when one of its files changes")
    _add_serve(serve, env)
    _add_credentials(make, env)
    reload_.add_argument("--pid-file", required=True, type=pathlib.Path, help="nats-server's (its pid_file)")
    reload_.add_argument("files", nargs="+", type=pathlib.Path, metavar="FILE")
    given = parser.parse_args(arguments)
    match given.command:
        case "serve":
            return _serve(serve, given)
        case "credentials":
            return _credentials(make, given)
    return Settings(command="reload", pid_file=given.pid_file, files=tuple(given.files))


def _add_serve(parser: argparse.ArgumentParser, env: Mapping[str, str]) -> None:
    access.add_options(parser, env)
    parser.add_argument(
        "--name",
        default=env.get("EBBGATE_NAME", socket.gethostname()),
        help="name of this process in beats (EBBGATE_NAME; default: the host's name)",
    )
    parser.add_argument(
        "--issuer",
        required=True,
        type=pathlib.Path,
        metavar="FILE",
        help="seed of the key that signs answers",
    )
    parser.add_argument(
        "--audience",
        default=env.get("EBBGATE_AUDIENCE", AUDIENCE),
        help="that tokens must be for (EBBGATE_AUDIENCE; default: %(default)s)",
    )
    parser.add_argument(
        "--accounts",
        default=env.get("EBBGATE_ACCOUNTS", ACCOUNTS),
        metavar="NAMESPACE/NAME=ROLE,…",
        help="ServiceAccounts, and what they are (EBBGATE_ACCOUNTS; default: %(default)s)",
    )
    options.add_health(parser, env)
    _add_api(parser, env)


def _add_api(parser: argparse.ArgumentParser, env: Mapping[str, str]) -> None:
    for name, text in (("url", "address of the API server"), ("token", "file"), ("ca", "file")):
        parser.add_argument(
            f"--api-{name}",
            default=env.get(f"EBBGATE_API_{name.upper()}", ""),
            help=f"{text} (EBBGATE_API_{name.upper()}; default: that of the pod)",
        )


def _add_credentials(parser: argparse.ArgumentParser, env: Mapping[str, str]) -> None:
    parser.add_argument("--names", required=True, metavar="NAME,…", help="DNS names and addresses of servers")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=pathlib.Path, metavar="DIR", help="write files there")
    where.add_argument("--namespace", help="write Secrets ebbgate-nats-… there")
    parser.add_argument(
        "--nodes",
        metavar="NAME,…",
        help="all nodes there are, each with a key; left out: nodes show tokens, and a callout is asked",
    )
    parser.add_argument(
        "--rotate",
        action="store_true",
        help="make certificates and users' keys anew; what was stays valid until a later run",
    )
    parser.add_argument(
        "--rotate-usher",
        action="store_true",
        help="make the usher's keys anew: restart ushers and servers at once, as nobody new gets in "
        "until they are",
    )
    parser.add_argument(
        "--settle",
        type=float,
        default=renewal.SETTLE_S,
        metavar="SECONDS",
        help="after so long what was made is known everywhere, and what was before may go "
        "(default: %(default)s)",
    )
    _add_api(parser, env)


def _serve(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Settings:
    accounts = {}
    for each in filter(None, given.accounts.split(",")):
        name, _, role = each.partition("=")
        if name.count("/") != 1 or role not in list(Role):
            parser.error(f"--accounts: {each}: NAMESPACE/NAME={'|'.join(Role)}")
        accounts[name] = Role(role)
    return Settings(
        command="serve",
        name=given.name,
        reach=access.chosen(parser, given),
        issuer=given.issuer,
        audience=given.audience,
        accounts=accounts,
        api=(given.api_url, given.api_token, given.api_ca),
        health=options.health(given),
    )


def _credentials(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Settings:
    nodes = None if given.nodes is None else tuple(filter(None, given.nodes.split(",")))
    for node in nodes or ():
        try:
            subjects.escape(node)
        except ValueError as error:
            parser.error(f"--nodes: {error}")
    if nodes is not None and given.out is None:
        parser.error("--nodes needs --out: keys of all nodes in one Secret could be read by each of them")
    return Settings(
        command="credentials",
        names=tuple(filter(None, given.names.split(","))),
        out=given.out,
        namespace=given.namespace or "",
        nodes=nodes,
        rotate=given.rotate,
        rotate_usher=given.rotate_usher,
        settle_s=given.settle,
        api=(given.api_url, given.api_token, given.api_ca),
    )
