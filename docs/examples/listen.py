"""Which pods leave by which policies: what is so now, then what changes. Needs `pip install nats-py`."""

import asyncio
import json
import os
import ssl
from pathlib import Path

import nats

URL, CA, TOKEN = (os.environ.get(f"EBBGATE_NATS_{each}") for each in ("URL", "CA", "TOKEN"))
API, ROWS = "ebbgate.v1.api" if TOKEN else "$JS.API", "ebbgate.v1.plan.node.*.endpoint.>"


async def main() -> None:
    who = {"token": lambda: Path(TOKEN).read_text().strip()} if TOKEN else {}  # anew for each connection
    who |= {"tls": ssl.create_default_context(cafile=CA), "inbox_prefix": "_INBOX.reader"}
    bus = await nats.connect((URL or "nats://127.0.0.1:4222").split(","), **who)
    live, stored = [await bus.subscribe(each) for each in (ROWS.replace("v1", "v1.live"), bus.new_inbox())]
    once = {"name": stored.subject[-22:], "deliver_subject": stored.subject, "filter_subject": ROWS}
    found = await bus.jetstream(prefix=API).add_consumer("PLAN", ack_policy="none", **once)  # after `live`
    for heard, count in (stored, found.num_pending + found.delivered.consumer_seq), (live, 10**18):
        for _ in range(count):
            message = await heard.next_msg(timeout=None)
            row = json.loads(message.data or b"{}")  # an empty payload: the row is gone
            print(message.subject.split(".")[-1].replace("_", "."), row.get("pod", "gone"), flush=True)
        await heard.unsubscribe()


asyncio.run(main())
