"""How things are said on the bus: connection, publishing, revisions, following. I/O, without decisions.

nats-py imports aiohttp where it finds it, for websockets. Nobody here speaks through one, and it costs each
service 10 MB: nats-py doesn't find it here. Who needs aiohttp itself imports it as ever.
"""

import sys

if "aiohttp" not in sys.modules:
    sys.modules["aiohttp"] = None  # type: ignore[assignment]
    import nats.aio.transport  # noqa: F401

    del sys.modules["aiohttp"]
