"""The programmer's settings: command line over environment over default. Read once, at start."""

import argparse
import os
import pathlib

import msgspec

from ebbgate_bus.runtime import access, options
from ebbgate_programmer.core import places


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`resync_s`: how often the kernel is read though nothing hints at a change; more rarely if that is much
    work.
    """

    command: str
    node: str
    reach: access.Access
    pin_path: pathlib.Path
    bpf_object: pathlib.Path
    port: int
    resync_s: float
    attach: str = places.AUTO
    direct: str = places.AUTO
    proc_sys: pathlib.Path = pathlib.Path("/proc/sys")
    as_json: bool = False
    health: options.HealthAddress | None = None


_EXAMPLE = "Example: ebbgate-programmer doctor --node node1. Each command has its own --help."
_DESCRIPTIONS = {
    "doctor": "Looks at the kernel, its settings, Ebbgate's own things and other software's; asks nodes "
    "whether their tunnel port is closed, and the bus, if its address is given. Changes nothing. Takes the "
    "--node, --pin-path and --port that the run command has, in the same network namespace. Example: kubectl "
    "exec -n ebbgate POD-OF-THE-PROGRAMMER -- ebbgate-programmer doctor -o json",
}


def parse(arguments: list[str]) -> Settings:
    """Exits with 2 and one line on what it can't read."""
    parser = argparse.ArgumentParser(
        "ebbgate-programmer", description="Makes one node's kernel obey the plan.", epilog=_EXAMPLE
    )
    commands = {
        "run": "follow the plan until stopped; stopping changes nothing",
        "check": "say what this machine lacks, exit 1 if anything",
        "doctor": "say what on this node is in the way of traffic, and what to do; exit 1 if it is a problem",
        "clean": "take everything of Ebbgate's out of the kernel",
    }
    subparsers = parser.add_subparsers(dest="command", required=True)
    for name, text in commands.items():
        _add_options(subparsers.add_parser(name, help=text, description=_DESCRIPTIONS.get(name, text)))
    subparsers.choices["doctor"].add_argument(
        "-o", "--output", choices=("text", "json"), default="text", help="form of the findings"
    )
    options.add_health(subparsers.choices["run"], os.environ)
    found = parser.parse_args(arguments)
    if found.command == "run" and not found.node:
        parser.error("--node or EBBGATE_NODE is needed")
    return Settings(
        command=found.command,
        node=found.node,
        reach=access.chosen(parser, found),
        pin_path=pathlib.Path(found.pin_path or _default_pin_path(found.node)),
        bpf_object=pathlib.Path(found.bpf_object),
        port=found.port,
        resync_s=found.resync,
        attach=found.attach,
        direct=found.direct,
        proc_sys=pathlib.Path(found.proc_sys),
        as_json=getattr(found, "output", "text") == "json",
        health=options.health(found) if found.command == "run" else None,
    )


def _add_options(parser: argparse.ArgumentParser) -> None:
    environment = os.environ.get
    parser.add_argument(
        "--node", default=environment("EBBGATE_NODE", ""), help="this node's name (EBBGATE_NODE)"
    )
    access.add_options(parser, os.environ)
    parser.add_argument(
        "--pin-path",
        default=environment("EBBGATE_PIN_PATH", ""),
        metavar="DIR",
        help=f"on a bpf filesystem (EBBGATE_PIN_PATH; default: {_default_pin_path('NODE')})",
    )
    parser.add_argument(
        "--bpf-object",
        default=environment("EBBGATE_BPF_OBJECT", "build/bpf/ebbgate.bpf.o"),
        metavar="FILE",
        help="the compiled programs (EBBGATE_BPF_OBJECT; default: %(default)s)",
    )
    parser.add_argument(
        "--proc-sys",
        default=environment("EBBGATE_PROC_SYS", "/proc/sys"),
        metavar="DIR",
        help="where the kernel's settings can be written: in a container not where they usually are "
        "(EBBGATE_PROC_SYS; default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=environment("EBBGATE_PORT", str(places.PORT)),
        help="of the tunnel, UDP, the same on all nodes (EBBGATE_PORT; default: %(default)s)",
    )
    parser.add_argument(
        "--resync", type=float, default=environment("EBBGATE_RESYNC", "10"), metavar="SECONDS", help=_RESYNC
    )
    parser.add_argument(
        "--attach",
        choices=(places.AUTO, places.TCX, places.CLSACT),
        default=environment("EBBGATE_ATTACH", places.AUTO),
        help="how BPF programs are attached to devices: by tcx links (Linux 6.6), by filters under a clsact "
        "qdisc (any Linux), or auto: by tcx if the kernel has it (EBBGATE_ATTACH; default: %(default)s)",
    )
    parser.add_argument(
        "--direct",
        choices=(places.AUTO, places.OFF),
        default=environment("EBBGATE_DIRECT", places.AUTO),
        help="whether tunnel packets may go past the node's own IP stack, which makes them cheaper: "
        "auto, unless the node has IPsec policies, which they would go past too; off: all by the VXLAN "
        "device, where the node's firewall rules for UDP see them (EBBGATE_DIRECT; default: %(default)s)",
    )


_RESYNC = (
    "seconds between two looks at the whole kernel when nothing hints at a change; more where a look costs "
    "so much that they would take over 0.5 %% of a core, 0.2 s of CPU: every 40 s (EBBGATE_RESYNC; "
    "default: %(default)s)"
)


def _default_pin_path(node: str) -> str:
    """A bpf filesystem takes no dots in names, and node names have them."""
    return f"/sys/fs/bpf/ebbgate/{(node or 'node').replace('.', '_')}"
