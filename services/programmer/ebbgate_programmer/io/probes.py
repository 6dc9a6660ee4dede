"""Whether other nodes say no at the tunnel's port. One datagram each, of no meaning to anybody.

It is eight zero bytes: a VXLAN header without the flag that makes it one, which the kernel throws away before
any program of ours sees it. UDP has no yes: an open port is as silent as a firewall that drops.
"""

import errno
import select
import socket
import time
from collections.abc import Iterable

from ebbgate_programmer.core.symptoms import Answer

WAIT_S = 1.0
LIMIT = 256
"""Nodes asked; of a large cluster a sample tells whether the port is closed somewhere on the way."""
_PROBE = bytes(8)
_CLOSED = errno.ECONNREFUSED


def ask(addresses: Iterable[str], port: int) -> dict[str, Answer]:
    """For all at once: takes WAIT_S unless each says no."""
    asked: dict[socket.socket, str] = {}
    answers: dict[str, Answer] = {}
    try:
        for address in list(addresses)[:LIMIT]:
            channel = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
            asked[channel] = address
            answers[address] = _send(channel, (address, port))
        _wait(asked, answers)
    finally:
        for channel in asked:
            channel.close()
    return answers


def _send(channel: socket.socket, to: tuple[str, int]) -> Answer:
    channel.setblocking(False)
    try:
        channel.connect(to)  # connected: ICMP errors come back to it
        channel.send(_PROBE)
    except OSError as error:
        return _answer(error)
    return Answer.SILENT


def _wait(asked: dict[socket.socket, str], answers: dict[str, Answer]) -> None:
    waiting = {each for each, address in asked.items() if answers[address] is Answer.SILENT}
    end = time.monotonic() + WAIT_S
    poller = select.poll()
    by_number = {each.fileno(): each for each in waiting}
    for number in by_number:
        poller.register(number, select.POLLIN)
    while by_number and (left := end - time.monotonic()) > 0:
        for number, _ in poller.poll(left * 1000):
            poller.unregister(number)
            channel = by_number.pop(number)
            answers[asked[channel]] = _answer_of(channel)


def _answer_of(channel: socket.socket) -> Answer:
    code = channel.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return _answer(OSError(code, "")) if code else Answer.SILENT


def _answer(error: OSError) -> Answer:
    return Answer.CLOSED if error.errno == _CLOSED else Answer.UNREACHABLE
