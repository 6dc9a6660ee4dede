"""nginx outside the cluster: what it logs is what the world sees."""

import pathlib
import time

import msgspec

from ebbgate_lab import processes, topology

ADDRESS = "10.168.60.13"
LOG_TIMEOUT_S = 2.0


class Visit(msgspec.Struct, frozen=True):
    """One request as nginx logged it. `line`: the whole line."""

    source: str
    path: str
    line: str


class Webserver:
    """A real nginx in the namespace `netns`, its files in `folder`."""

    def __init__(self, folder: pathlib.Path, netns: str, *, outlive: bool = False) -> None:
        self._netns = netns
        self._access_log = folder / "access.log"
        config = folder / "nginx.conf"
        config.write_text(_config(folder))
        self.process = processes.Process(
            "nginx", ["nginx", "-p", str(folder), "-c", str(config)], log=folder / "nginx.log", netns=netns
        )
        self.process.outlive = outlive

    def start(self) -> None:
        self._access_log.touch()
        self.process.start()
        processes.until_listening(ADDRESS, 80, netns=self._netns)

    def visits(self) -> list[Visit]:
        """All requests so far, oldest first."""
        return [_visit(line) for line in self._access_log.read_text().splitlines()]

    def visit_to(self, path: str) -> Visit | None:
        """The request for `path`, once it is in the log; None if it doesn't come."""
        deadline = time.monotonic() + LOG_TIMEOUT_S
        while time.monotonic() < deadline:
            for visit in reversed(self.visits()):
                if visit.path == path:
                    return visit
            time.sleep(0.01)
        return None


def _config(folder: pathlib.Path) -> str:
    return f"""
daemon off;
master_process off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log {folder}/access.log combined;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen {ADDRESS}:80 backlog=4096;
    listen [{topology.twin(ADDRESS)}]:80;
    location / {{ return 200 "hello $remote_addr\\n"; }}
  }}
}}
"""


def _visit(line: str) -> Visit:
    return Visit(line.split(" ", 1)[0], line.split('"')[1].split(" ")[1], line)
