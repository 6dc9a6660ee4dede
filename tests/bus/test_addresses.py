"""Servers' addresses with a user and a password, or a token, in them, on real servers."""

import asyncio
import pathlib

import pytest

from ebbgate_bus.runtime import access, connection
from ebbgate_lab import processes

from .test_credentials import refusal
from .test_fences import free_port
from .test_permissions import WITHIN_S


async def test_a_password_may_have_anything_in_it_and_is_never_logged(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    security = 'authorization { user: "a@b", password: "hun/t%e@r,2" }\n'
    process = processes.nats_server(tmp_path, host="127.0.0.1", port=port, security=security)
    process.start()
    processes.until_listening("127.0.0.1", port)
    reach = access.Access(url=f"nats://a%40b:hun%2Ft%25e%40r%2C2@127.0.0.1:{port}")
    caplog.set_level("INFO", logger="ebbgate_bus")
    try:
        bus = await asyncio.wait_for(connection.connect(reach, name="r"), WITHIN_S)
        await bus.close()
        assert "Violation" in await refusal(access.Access(url=reach.url.replace("hun", "hunt")))
    finally:
        process.kill()
    (connected,) = [each for each in caplog.records if each.getMessage() == "bus.connected"]
    assert connected.__dict__["fields"] == {"server": f"127.0.0.1:{port}"}
    assert not [each for each in caplog.records if "hun" in str(each.__dict__)]


async def test_each_server_is_told_what_its_own_address_says(tmp_path: pathlib.Path) -> None:
    """To and fro: what one was told the other would take for a wrong password, and has no business with."""
    secrets = {
        "one": ('user: "u", password: "hun/ter2"', "u:hun%2Fter2"),
        "two": ('token: "to/ken@2"', "to%2Fken%402"),
    }
    ports = {name: free_port() for name in secrets}
    servers = {}
    for name, (security, _) in secrets.items():
        folder = tmp_path / name
        folder.mkdir()
        security = f"authorization {{ {security} }}\n"
        servers[name] = processes.nats_server(folder, host="127.0.0.1", port=ports[name], security=security)
    url = ",".join(f"nats://{who}@127.0.0.1:{ports[name]}" for name, (_, who) in secrets.items())
    servers["one"].start()
    processes.until_listening("127.0.0.1", ports["one"])
    bus = await asyncio.wait_for(connection.connect(url, name="r"), WITHIN_S)
    try:
        for here, there in (("one", "two"), ("two", "one")):
            servers[there].start()
            processes.until_listening("127.0.0.1", ports[there])
            servers[here].kill()
            async with asyncio.timeout(WITHIN_S):
                while not (bus.is_connected and bus.connected_url and bus.connected_url.port == ports[there]):
                    await asyncio.sleep(0.02)
            await bus.flush()
    finally:
        await bus.close()
        for each in servers.values():
            each.kill()
