"""Everybody's packet filters, as the programs that know them print them. Reads only.

`nft` shows all of nf_tables, with iptables' rules in part; `iptables-save` those in full, and what the old
xtables hold, which nft doesn't see.
"""

import shutil
import subprocess

from ebbgate_programmer.io import nft

TIMEOUT_S = 30
"""A node with 10,000 services has 100,000 rules."""
SAVERS = ("iptables", "ip6tables")


def ruleset() -> bytes:
    """JSON of all, without the elements of sets."""
    return _run("nft", "-j", "-t", "list", "ruleset")


def saved() -> list[tuple[str, str]]:
    """(tool, what its `-save` prints): of those installed, and of the old ones that hold anything."""
    told = [(tool, _run(f"{tool}-save").decode()) for tool in SAVERS if shutil.which(f"{tool}-save")]
    old = [(tool, f"{tool}-legacy-save") for tool in SAVERS]
    return told + [(tool, _run(program).decode()) for tool, program in old if _is_used(tool, program)]


def _is_used(tool: str, program: str) -> bool:
    """Asking creates tables where there are none; the kernel lists those that there are."""
    path = f"/proc/thread-self/net/{tool.removesuffix('tables')}_tables_names"
    try:
        with open(path, encoding="ascii") as names:
            return bool(names.read().strip() and shutil.which(program))
    except FileNotFoundError:
        return False


def _run(*command: str) -> bytes:
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise nft.Refused(f"{command[0]}: {done.stderr.decode().strip().split(chr(10), 1)[0]}")
    return done.stdout
