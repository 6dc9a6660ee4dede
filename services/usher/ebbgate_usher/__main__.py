"""The usher's composition root: `serve` answers nats-server, `credentials` makes keys and certificates,
`reload` has nats-server read them.
"""

import asyncio
import logging
import pathlib
import sys
import time
from collections.abc import Iterator

from ebbgate_bus.contracts import nkeys
from ebbgate_bus.runtime import access, health, logs, metrics, service, vitals
from ebbgate_usher import settings
from ebbgate_usher.io import api, callout, certificates, making, reloading, stores
from ebbgate_usher.io import metrics as of_usher

log = logging.getLogger("ebbgate_usher")


def main() -> int:
    chosen = settings.parse()
    logs.setup(service="usher", name=chosen.command)
    match chosen.command:
        case "serve":
            service.run(lambda: _serve(chosen))
        case "reload":
            service.run(lambda: reloading.reload_for_ever(chosen.pid_file, chosen.files))
        case "credentials":
            return asyncio.run(_credentials(chosen))
    return 0


def _place(chosen: settings.Settings) -> api.Place:
    url, token, ca = chosen.api
    mount = api.MOUNT
    return api.Place(
        url or api.in_cluster(), pathlib.Path(token or mount / "token"), pathlib.Path(ca or mount / "ca.crt")
    )


async def _serve(chosen: settings.Settings) -> None:
    server = api.Api(_place(chosen))
    own = vitals.Vitals("usher")
    answering: callout.Callout | None = None

    def unready() -> str:
        return own.absence() or own.hindrance() or (answering.trouble if answering else "")

    def collect() -> Iterator[metrics.Measured]:
        yield from own.measured()
        if answering:
            yield from of_usher.collect(answering)

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(health.serve(health.Health(unready, collect), chosen.health))
            issuer = access.read_key(chosen.issuer)
            bus = await own.connect(chosen.reach, name="usher")
            terms = callout.Terms(chosen.audience, chosen.accounts)
            answering = callout.Callout(bus, server, issuer, terms)
            await answering.start()
            log.info("usher.ready", extra={"fields": {"issuer": issuer.public}})
            await service.keep_beating(bus, service="usher", name=chosen.name)
    finally:
        if own.bus is not None:
            await own.bus.close()
        await server.close()


async def _credentials(chosen: settings.Settings) -> int:
    """Exit status: 1 with a line that says what is wrong."""
    wish = making.Wish(
        names=chosen.names,
        callout=chosen.nodes is None,
        nodes=chosen.nodes or (),
        rotate=chosen.rotate,
        rotate_usher=chosen.rotate_usher,
        settle_s=chosen.settle_s,
    )
    server: api.Api | None = None
    try:
        if chosen.out:
            done = await making.make(stores.Folder(chosen.out), wish, time.time())
        else:
            server = api.Api(_place(chosen))
            done = await making.make(stores.Secrets(server, chosen.namespace), wish, time.time())
    except (api.Refused, certificates.Unreadable, nkeys.Unreadable, *api.FAILURES) as error:
        print(f"ebbgate-usher: credentials can't be made: {str(error) or repr(error)}", file=sys.stderr)
        return 1
    finally:
        if server is not None:
            await server.close()
    print("\n".join(done or ["nothing is due"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
