"""Inherited connections are taken over one by one: what is wrong with one costs the others nothing."""

import asyncio
import socket
from typing import Any, cast

from aeterna.sdk.connection import Connection
from aeterna.sdk.live import ADOPTERS, LiveConnections, LiveProtocol


class Nobody:
    """No supervisor."""

    def on_freeze(self, handler: Any) -> None: ...

    on_resume = on_retired = on_freeze


async def test_a_connection_that_cannot_go_on_costs_the_others_nothing() -> None:
    pairs = [socket.socketpair() for _ in range(3 * ADOPTERS)]
    broken = socket.socket()
    broken.close()
    live = LiveConnections(cast("Any", Nobody()), LiveProtocol)
    connections = [Connection(broken), *(Connection(sock) for sock, _ in pairs), Connection(broken)]

    await live.adopt(connections)

    assert len(live.protocols) == len(pairs)
    for protocol in list(live.protocols):
        protocol.let_go()
    for _, peer in pairs:
        peer.close()
    await asyncio.sleep(0)
