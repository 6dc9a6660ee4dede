"""Which pods leave by which policies: what is so now, then what changes. Needs `pip install nats-py`."""

import asyncio
import json
import sys

import nats

ROOT, ROWS = "ebbgate.v1", "plan.node.*.endpoint.>"


async def main(url: str) -> None:
    bus = await nats.connect(url)
    # Live first, then what is stored: so nothing is missed in between, and some may come twice.
    live = await bus.subscribe(f"{ROOT}.live.{ROWS}")
    stored = await bus.jetstream().subscribe(f"{ROOT}.{ROWS}", stream="PLAN", ordered_consumer=True)
    waiting = (await stored.consumer_info()).num_pending + stored.pending_msgs > 0
    while waiting:
        say(message := await stored.next_msg())
        waiting = message.metadata.num_pending > 0
    async for message in live.messages:
        say(message)


def say(message: nats.aio.msg.Msg) -> None:
    row = json.loads(message.data or b"{}")  # an empty payload: the row is gone
    print(message.subject.split("endpoint.")[1].replace("_", "."), row.get("pod", "gone"), flush=True)


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222"))
