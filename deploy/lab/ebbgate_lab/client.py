"""A client that requests without pause: one new connection per request, until it is told to stop.

Run inside a pod's namespace. It closes with a reset, so that ports in TIME_WAIT never run out and look like
packet loss; a request without an answer in TIMEOUT_S is counted as lost and not tried again.
"""

import argparse
import json
import pathlib
import signal
import socket
import statistics
import struct
import sys
import time

TIMEOUT_S = 0.8
"""Below the 1 s after which a lost SYN would be sent again: a loss must not hide in a retransmission."""
INTERVAL_S = 0.004
LIMIT = 100_000
"""Requests of one run, at most."""


def main() -> None:
    """Request /<name>/<n> for n = 0, 1, …; on SIGTERM print one JSON object and end.

    `sent`: requests; `lost`: the numbers of those without answer; `slowest_ms`. `progress` is a file that
    holds the number of requests answered so far.
    """
    given = _arguments()
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    lost: list[int] = []
    took_ms: list[float] = []
    start = time.monotonic()
    while not stopped and len(took_ms) < LIMIT and time.monotonic() - start < given.seconds:
        began = time.monotonic()
        if not _answered(given.address, f"/{given.name}/{len(took_ms)}"):
            lost.append(len(took_ms))
        took_ms.append((time.monotonic() - began) * 1000)
        given.progress.write_text(str(len(took_ms) - len(lost)))
        if given.interval:
            time.sleep(given.interval)
    account = {
        "sent": len(took_ms),
        "lost": lost,
        "slowest_ms": round(max(took_ms), 1),
        "median_ms": statistics.median(took_ms),
        "took_s": time.monotonic() - start,
    }
    given.result.write_text(json.dumps(account))
    sys.exit(0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("--name", default="client")
    parser.add_argument("--interval", type=float, default=INTERVAL_S, help="seconds between requests")
    parser.add_argument("--seconds", type=float, default=120.0, help="end by itself after so long")
    parser.add_argument("--progress", type=pathlib.Path, required=True)
    parser.add_argument("--result", type=pathlib.Path, required=True)
    return parser.parse_args()


def _answered(address: str, path: str) -> bool:
    try:
        with socket.create_connection((address, 80), timeout=TIMEOUT_S) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request = f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: keep-alive\r\n\r\n"
            connection.sendall(request.encode())
            return connection.recv(4096).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


if __name__ == "__main__":
    main()
