"""A server that stops accepting answers the connections that it has already accepted."""

import asyncio
import os
import socket

import pytest
from aeterna.sdk.connections.draining import stop_accepting


class Greeting(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")


async def test_a_connection_that_was_accepted_in_the_same_turn_of_the_loop_is_served() -> None:
    """asyncio accepts in one turn and creates the transport in a later one; `Server.close()` in between resets it."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Greeting, "127.0.0.1", 0)
    read, write = os.pipe()
    with socket.create_connection(server.sockets[0].getsockname()) as client:
        client.setblocking(False)
        # Both are ready when the loop polls next; the listener was registered first, so it is handled first.
        loop.add_reader(read, lambda: (loop.remove_reader(read), stop_accepting([server])))
        os.write(write, b"x")

        assert await asyncio.wait_for(loop.sock_recv(client, 100), 10) == b"hello"

    server.close()
    for fd in (read, write):
        os.close(fd)


async def test_later_connections_stay_in_the_queue() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Greeting, "127.0.0.1", 0)
    stop_accepting([server])

    with socket.create_connection(server.sockets[0].getsockname()) as client:
        client.setblocking(False)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.sock_recv(client, 100), 0.1)

    server.close()
