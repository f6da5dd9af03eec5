"""Connections are opened one by one: an error in one does not affect the others."""

import asyncio
import os
import resource
import socket
from typing import Any, cast

import pytest
from aeterna.sdk import live as module
from aeterna.sdk.connections import accept_loop
from aeterna.sdk.connections.connection import Connection
from aeterna.sdk.live import LiveConnections, LiveProtocol


class NoClient:
    """No supervisor, nothing inherited."""

    inherited_connections: tuple[Connection, ...] = ()

    def on_freeze(self, handler: Any) -> None: ...

    on_resume = on_retired = on_freeze


async def test_a_broken_connection_does_not_affect_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ADOPTED_AT_ONCE", 4)
    pairs = [socket.socketpair() for _ in range(10)]
    broken = socket.socket()
    broken.close()
    live = LiveConnections(cast("Any", NoClient()), LiveProtocol)
    connections = [Connection(broken), *(Connection(sock) for sock, _ in pairs), Connection(broken)]

    await live.adopt(connections)

    assert len(live.protocols) == len(pairs)
    for protocol in list(live.protocols):
        protocol.let_go()
    for _, peer in pairs:
        peer.close()
    await asyncio.sleep(0)


async def test_without_descriptors_left_the_queue_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accept_loop, "NO_ROOM_S", 0.01)
    live = LiveConnections(cast("Any", NoClient()), LiveProtocol)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await live.serve(listener)
        peer = socket.create_connection(listener.getsockname())
        spare = os.dup(listener.fileno())
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare, limits[1]))
        try:
            while not caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0)
            refused = not live.protocols
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            os.close(spare)
        async with asyncio.timeout(15):
            while not live.protocols:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        live.stop_accepting()

    assert refused
    assert "cannot accept" in caplog.text
    for protocol in list(live.protocols):
        protocol.let_go()
    await asyncio.sleep(0)
    peer.close()
