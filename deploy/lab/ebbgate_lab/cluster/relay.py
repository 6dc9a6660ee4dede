"""The way into the cluster: a port of this machine's loopback that leads to the API server in its namespace.

Runs in the API server's namespace, and listens in the machine's by a socket that it was given: a socket stays
where it was made. What it carries is TLS from end to end.
"""

import argparse
import asyncio
import contextlib
import socket

CHUNK = 65536


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("descriptor", type=int, help="of the listening socket")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    given = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(socket.socket(fileno=given.descriptor), given.host, given.port))


async def _serve(listening: socket.socket, host: str, port: int) -> None:
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_carry(reader, there[1]), _carry(there[0], writer))

    server = await asyncio.start_server(relay, sock=listening)
    await server.serve_forever()


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """One direction, until its end; its end ends the other side's hope, too."""
    with contextlib.suppress(OSError):
        while chunk := await source.read(CHUNK):
            target.write(chunk)
            await target.drain()
    with contextlib.suppress(OSError):
        target.close()


if __name__ == "__main__":
    main()
