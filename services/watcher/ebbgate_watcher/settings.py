"""What the watcher is told: options first, then the environment, then defaults. Read once, at start."""

import argparse
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from ebbgate_bus.runtime import access, options
from ebbgate_watcher.core.lease import Terms


class Settings(msgspec.Struct, frozen=True):
    """`path`: of the directory source. `kubeconfig`: None for the service account of the pod. `lease`:
    namespace and name; None: no other watcher publishes. `health`: None: not served.
    """

    reach: access.Access
    source: str
    name: str
    path: Path = Path()
    kubeconfig: str | None = None
    node_networks: bool = False
    lease: tuple[str, str] | None = None
    terms: Terms = Terms()
    health: options.HealthAddress | None = None
    nats_replicas: int = 1


def parse_settings(arguments: Sequence[str] | None = None, env: Mapping[str, str] = os.environ) -> Settings:
    """Exits with a message for people if they don't make sense."""
    parser = _parser(env)
    given = parser.parse_args(arguments)
    if given.source == "directory" and not given.path:
        parser.error("--source directory needs --path DIR (or EBBGATE_PATH)")
    namespace, _, name = given.lease.partition("/")
    if given.lease and not (namespace and name):
        parser.error("--lease needs NAMESPACE/NAME")
    terms = Terms(given.lease_duration, given.lease_renew_deadline, given.lease_retry_period)
    if not terms.duration_s > terms.renew_s > terms.retry_s > 0:
        parser.error("a Lease's duration must exceed its renew deadline, and that its retry period")
    return Settings(
        reach=access.chosen(parser, given),
        source=given.source,
        name=given.name,
        path=Path(given.path or ""),
        kubeconfig=given.kubeconfig or None,
        node_networks=given.node_networks,
        lease=(namespace, name) if given.lease and given.source == "kubernetes" else None,
        terms=terms,
        health=options.health(given),
        nats_replicas=given.nats_replicas,
    )


def _parser(env: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ebbgate-watcher", description="Says what Kubernetes says.")
    access.add_options(parser, env)
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
    _add_lease(parser, env)
    options.add_replicas(parser, env)
    options.add_health(parser, env)
    return parser


def _add_lease(parser: argparse.ArgumentParser, env: Mapping[str, str]) -> None:
    parser.add_argument(
        "--lease",
        default=env.get("EBBGATE_LEASE", "ebbgate/ebbgate-watcher"),
        metavar="NAMESPACE/NAME",
        help="elects the one watcher of several that publishes (EBBGATE_LEASE); empty: there is only one",
    )
    usual = Terms()
    for option, default, meaning in (
        ("duration", usual.duration_s, "after so long without a renewal another watcher takes over"),
        ("renew-deadline", usual.renew_s, "who could not renew for so long stops publishing"),
        ("retry-period", usual.retry_s, "between two renewals, and two attempts"),
    ):
        variable = f"EBBGATE_LEASE_{option.upper().replace('-', '_')}"
        parser.add_argument(
            f"--lease-{option}",
            type=float,
            default=env.get(variable, default),
            metavar="SECONDS",
            help=f"{meaning} ({variable}; default: {default:g})",
        )
