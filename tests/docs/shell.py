"""A person's shell: what a page says to type is typed there, as it stands."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping
from concurrent import futures
from typing import NamedTuple

from ebbgate_lab import apiserver, processes

from . import pages

WITHIN_S = 60.0
AT_ONCE = 4


class Said(NamedTuple):
    """What a command must say, in whatever order: `words`, each a regular expression. `exits`: its status;
    None where it goes on until somebody ends it, which is done once all was said.
    """

    words: tuple[str, ...]
    exits: int | None = 0


def said(*words: str, exits: int | None = 0) -> Said:
    return Said(words, exits)


class Shell:
    """`commands`: the only ones that are to be typed, and what they must say. `words`: what stands for
    placeholders. `environment` and `netns`: of that person, who has our programs and those components that
    `programs` names. The folder is home, and where the typing is done; of a checkout it has `deploy` and the
    Makefile.
    """

    def __init__(
        self,
        commands: Mapping[str, Said],
        folder: pathlib.Path,
        *,
        environment: Mapping[str, str],
        netns: str = "",
        programs: Iterable[str] = (),
        words: Mapping[str, str] = {},
    ) -> None:
        self.commands = commands
        self.folder = folder
        self.typed: set[str] = set()
        for name in ("deploy", "Makefile"):
            (folder / name).symlink_to(pages.ROOT / name)
        paths = (str(_links(folder / ".bin", programs)), os.path.dirname(sys.executable), os.environ["PATH"])
        home = {"HOME": str(folder), "PATH": os.pathsep.join(paths), "COLUMNS": "200"}
        self._environment = {**home, **environment}
        self._netns = netns
        self._words = words

    def type(
        self,
        command: str,
        *,
        more: str = "",
        netns: str = "",
        within_s: float = WITHIN_S,
        words: Mapping[str, str] = {},
    ) -> str:
        """What it said, checked. `more`: written behind it. `words`, `netns`: for this time."""
        wanted = self.commands[command]
        self.typed.add(command)
        line = filled(command, {**self._words, **words}) + (f" {more}" if more else "")
        # From a file: bash -c would become the command itself, and be no shell to it.
        with tempfile.NamedTemporaryFile("w", suffix=".sh") as script:
            script.write(f"{line}\n")
            script.flush()
            typed = [*processes.inside(netns or self._netns), "bash", "-e", script.name]
            output, status = self._until_said(typed, wanted, within_s)
        missing = [each for each in wanted.words if not re.search(each, output, re.MULTILINE)]
        assert not missing, f"$ {line}\ndidn't say {missing}:\n{output}"
        assert wanted.exits in (status, None), f"$ {line}\nended with {status}:\n{output}"
        assert "Traceback" not in output, f"$ {line}:\n{output}"
        return output

    def type_all(
        self,
        commands: Iterable[str],
        *,
        words: Mapping[str, Mapping[str, str]] = {},
    ) -> None:
        """Several at once: most of them wait for something most of the time. `words`: of some."""
        with futures.ThreadPoolExecutor(AT_ONCE) as pool:
            typing = [pool.submit(self.type, each, words=words.get(each, {})) for each in commands]
            for each in typing:
                each.result()

    def _until_said(self, command: list[str], wanted: Said, within_s: float) -> tuple[str, int]:
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            patience = threading.Timer(within_s, os.killpg, (process.pid, signal.SIGKILL))
            patience.start()
            try:
                output = _heard(process, wanted)
            finally:
                patience.cancel()
        return output, process.returncode


def _heard(process: "subprocess.Popen[str]", wanted: Said) -> str:
    """All that it says until its end, which is Ctrl-C if it would go on."""
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if wanted.exits is None and all(re.search(each, output, re.MULTILINE) for each in wanted.words):
            os.killpg(process.pid, signal.SIGINT)
            return output + process.stdout.read()
    return output


def filled(command: str, words: Mapping[str, str]) -> str:
    """Placeholders are replaced where they stand alone: NAME, [NAME], FILE…, and … itself."""
    for placeholder, value in words.items():
        command = re.sub(rf"(?<![\w/]){re.escape(placeholder)}(?!\w)", lambda _, v=value: v, command)
    return command


def _links(folder: pathlib.Path, programs: Iterable[str]) -> pathlib.Path:
    folder.mkdir(exist_ok=True)
    for name in programs:
        (folder / name).symlink_to(apiserver.binary(name))
    return folder
