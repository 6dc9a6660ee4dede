"""Starts commands of an image on its file system, as a cluster's security context would have them: with the
image's user and environment and no other, and without a place to write."""

import pathlib
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

PROGRAMS = "usr/local/bin"
MORE = (("ebbgate", "--version"), ("nats-server", "--version"), ("ebbgate-programmer", "doctor", "--help"))
ENTER = """
mount --bind "$0" "$0"
mount -o remount,bind,ro "$0"
mount --rbind /dev "$0/dev"
mount -t proc proc "$0/proc"
user=$1
shift
exec chroot --groups= --userspec="$user" "$0" /usr/bin/env -i "$@"
"""


def all_commands(root: pathlib.Path) -> list[tuple[str, ...]]:
    programs = sorted(path.name for path in (root / PROGRAMS).iterdir())
    return [*((name, "--help") for name in programs), *(each for each in MORE if each[0] in programs)]


def failures(root: pathlib.Path, config: Mapping[str, Any]) -> Iterator[str]:
    for command in all_commands(root):
        arguments = [str(root), config["User"], *config["Env"], *command]
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "sh", "-ec", ENTER, *arguments],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode or not done.stdout + done.stderr:
            yield f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}"
