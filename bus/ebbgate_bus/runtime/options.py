"""Options that several services have: where health is served, how many servers keep a stream. Defaults come
from the environment.
"""

import argparse
from collections.abc import Mapping

import msgspec


class HealthAddress(msgspec.Struct, frozen=True):
    """`host` empty: all addresses."""

    host: str
    port: int


def add_health(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    parser.add_argument(
        "--health-port",
        type=_port,
        default=environment.get("EBBGATE_HEALTH_PORT", "0"),
        metavar="PORT",
        help="serve /healthz, /readyz and /metrics here (EBBGATE_HEALTH_PORT); 0: don't",
    )
    parser.add_argument(
        "--health-bind",
        default=environment.get("EBBGATE_HEALTH_BIND", ""),
        metavar="ADDRESS",
        help="and only on this address (EBBGATE_HEALTH_BIND; default: all)",
    )


def health(given: argparse.Namespace) -> HealthAddress | None:
    """None: not served."""
    return HealthAddress(given.health_bind, given.health_port) if given.health_port else None


def add_replicas(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    """Of who makes streams."""
    parser.add_argument(
        "--nats-replicas",
        type=int,
        choices=(1, 3, 5),
        default=environment.get("EBBGATE_NATS_REPLICAS", "1"),
        help="how many servers of a NATS cluster keep each stream (EBBGATE_NATS_REPLICAS; default: 1)",
    )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"not a port: {text!r}")
    return int(text)
