"""What the watcher is told: options first, then the environment, then defaults. Read once, at start."""

import argparse
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec


class Settings(msgspec.Struct, frozen=True):
    """`path`: of the directory source. `kubeconfig`: None for the service account of the pod."""

    nats: str
    source: str
    name: str
    path: Path = Path()
    kubeconfig: str | None = None
    node_networks: bool = False


def parse_settings(arguments: Sequence[str] | None = None, env: Mapping[str, str] = os.environ) -> Settings:
    """Exits with a message for people if they don't make sense."""
    parser = _parser(env)
    given = parser.parse_args(arguments)
    if given.source == "directory" and not given.path:
        parser.error("--source directory needs --path DIR (or EBBGATE_PATH)")
    return Settings(
        nats=given.nats,
        source=given.source,
        name=given.name,
        path=Path(given.path or ""),
        kubeconfig=given.kubeconfig or None,
        node_networks=given.node_networks,
    )


def _parser(env: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ebbgate-watcher", description="Says what Kubernetes says.")
    parser.add_argument(
        "--nats",
        default=env.get("EBBGATE_NATS_URL", "nats://127.0.0.1:4222"),
        metavar="URL",
        help="servers, comma-separated (EBBGATE_NATS_URL)",
    )
    parser.add_argument(
        "--source",
        choices=("directory", "kubernetes"),
        default=env.get("EBBGATE_SOURCE", "kubernetes"),
        help="where objects come from (EBBGATE_SOURCE)",
    )
    parser.add_argument(
        "--path", default=env.get("EBBGATE_PATH"), metavar="DIR", help="of manifests (EBBGATE_PATH)"
    )
    parser.add_argument(
        "--kubeconfig",
        default=env.get("KUBECONFIG"),
        metavar="FILE",
        help="how to reach the API server (KUBECONFIG); without one: the pod's service account",
    )
    parser.add_argument(
        "--node-networks",
        action="store_true",
        help="publish NodeNetwork manifests of the directory, where no programmers do",
    )
    parser.add_argument(
        "--name", default=env.get("EBBGATE_NAME", socket.gethostname()), help="of this process, for people"
    )
    return parser
