"""nftables, by the `nft` program: one transaction per call, everything or nothing.

A process of its own costs 2 ms and keeps GPL code out of ours. It sends what `firewall` wrote and fetches
what `firewall_reading` parses.
"""

import subprocess

from ebbgate_programmer.core import firewall

TIMEOUT_S = 30
"""A transaction of 65,536 elements takes half a second."""


class Refused(Exception):
    """nft's no, in its own words."""


def apply(script: str) -> None:
    done = _run(("-f", "-"), script)
    if done.returncode:
        raise Refused(f"nft: {_first_line(done.stderr)}")


def check(script: str) -> str:
    """What nft says against `script`, or empty; nothing is changed."""
    return _first_line(_run(("-c", "-f", "-"), script).stderr)


def read() -> list[bytes]:
    """JSON of each of our tables that exists. All are asked for at once: most of it is nft's start."""
    listings = []
    asked = [_list(*table) for table in firewall.TABLES]
    for asking in asked:
        listing, complaint = asking.communicate(timeout=TIMEOUT_S)
        if asking.returncode == 0:
            listings.append(listing)
        elif b"No such file" not in complaint:
            raise Refused(f"nft: {_first_line(complaint.decode())}")
    return listings


def _list(family: str, table: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ("nft", "-j", "list", "table", family, table),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def remove() -> None:
    """All tables absent."""
    named = [f"table {family} {table}" for family, table in firewall.TABLES]
    apply("".join((*(f"{each} {{ }}\n" for each in named), *(f"delete {each}\n" for each in named))))


def _run(arguments: tuple[str, ...], text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ("nft", *arguments), input=text, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0]
