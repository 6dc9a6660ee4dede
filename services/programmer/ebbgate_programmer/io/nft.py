"""nftables, by the `nft` program: one transaction per call, everything or nothing.

A process of its own costs 2 ms and keeps GPL code out of ours. It sends what `firewall` wrote; what is there
is read without it (`nfttables`).
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
