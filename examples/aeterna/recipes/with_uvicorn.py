"""uvicorn under Aeterna: the inherited listener, no failed request when it is replaced."""

import asyncio
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn
from aeterna import AsyncAeternaClient
from aeterna.sdk.connections.draining import DrainingApp, Receive, Scope, Send, leave_on, stop_accepting

if TYPE_CHECKING:
    from collections.abc import Iterator

LINGER_S = 1.0


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})


class Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> "Iterator[None]":
        yield  # handle SIGTERM here: uvicorn would close kept-alive connections


async def main() -> None:
    client = AsyncAeternaClient()
    listener = client.get_listener_socket()
    await client.load_context()
    draining = DrainingApp(app)
    server = Server(uvicorn.Config(draining, lifespan="off", access_log=False, loop="asyncio"))

    serving = asyncio.create_task(server.serve(sockets=[listener] if listener else None))
    await client.ready()
    await leave_on([signal.SIGTERM], draining, stop_accepting=lambda: stop_accepting(server.servers), linger_s=LINGER_S)
    server.should_exit = True
    await serving


asyncio.run(main())
