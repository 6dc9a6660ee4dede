"""What a resolver is told from outside: flags, with environment variables as their defaults."""

import argparse
import ipaddress
import os
import socket
from collections.abc import Mapping, Sequence

import msgspec

from ebbgate_bus.runtime import access, options


class Settings(msgspec.Struct, frozen=True):
    """`cluster_cidrs`: destinations that are never steered, besides those found from the API. `health`: None:
    not served.
    """

    reach: access.Access
    name: str
    cluster_cidrs: tuple[str, ...]
    health: options.HealthAddress | None = None
    nats_replicas: int = 1


def parse(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of a command line. Ends the process with a message if they are no good."""
    parser = argparse.ArgumentParser(
        prog="ebbgate-resolver",
        description="Reads facts from the bus, decides, and publishes each node's desired state.",
    )
    access.add_options(parser, environment)
    parser.add_argument(
        "--name",
        default=environment.get("EBBGATE_NAME", socket.gethostname()),
        help="name of this process in logs and beats (EBBGATE_NAME; default: the host's name)",
    )
    parser.add_argument(
        "--cluster-cidrs",
        default=environment.get("EBBGATE_CLUSTER_CIDRS", ""),
        metavar="CIDR,…",
        help="destinations never steered, besides those that the API tells (EBBGATE_CLUSTER_CIDRS)",
    )
    options.add_replicas(parser, environment)
    options.add_health(parser, environment)
    given = parser.parse_args(arguments)
    cidrs = tuple(filter(None, (cidr.strip() for cidr in given.cluster_cidrs.split(","))))
    for cidr in cidrs:
        try:
            ipaddress.ip_network(cidr, strict=False)
        except ValueError as error:
            parser.error(f"--cluster-cidrs: {error}")
    reach = access.chosen(parser, given)
    return Settings(reach, given.name, cidrs, options.health(given), given.nats_replicas)
