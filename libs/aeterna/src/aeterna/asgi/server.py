"""The server: lifespan, listener and shutdown."""

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aeterna.asgi.live import App, Message
from aeterna.asgi.protocol import AsgiProtocol, Limits
from aeterna.sdk.async_client import AsyncAeternaClient
from aeterna.sdk.live import LiveConnections

log = logging.getLogger("aeterna.asgi")

_LOOK_S = 0.02
_LINGER_S = 1.0  # a client on a kept-alive connection may be sending a request


async def serve(
    app: App,
    *,
    listener: socket.socket | str | None = None,
    client: AsyncAeternaClient | None = None,
    limits: Limits | None = None,
    drain_s: float = 20.0,
) -> None:
    """Serve until SIGTERM. `listener` is a socket or the name of an inherited listener, by default the first one."""
    client = client or AsyncAeternaClient()
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    async with _lifespan(app) as state:
        live = LiveConnections(client, lambda: AsgiProtocol(app, limits or Limits(), state))

        def retired() -> None:
            """Finish requests under way, then close: the next request on the connection would go to the next
            process."""
            for each in list(live.protocols):
                each.closing = True  # type: ignore[attr-defined]

        live.retired = retired
        await client.load_context()
        if not isinstance(listener, socket.socket):
            listener = client.get_listener_socket(listener)
        if listener is None:
            raise RuntimeError("no listener: start it under a supervisor, or give it a socket")
        await live.serve(listener)
        await client.ready()
        await ending.wait()
        await _leave(live, drain_s)
        await client.close()


async def _leave(live: LiveConnections, drain_s: float) -> None:
    live.stop_accepting()
    protocols = [each for each in live.protocols if isinstance(each, AsgiProtocol)]
    for each in protocols:
        each.leave()
    clock = asyncio.get_running_loop()
    linger, deadline = clock.time() + min(_LINGER_S, drain_s), clock.time() + drain_s
    while protocols and clock.time() < deadline:
        if clock.time() >= linger:
            for each in protocols:
                if not each.busy:
                    each.shut()
        await asyncio.sleep(_LOOK_S)
        protocols = [each for each in live.protocols if isinstance(each, AsgiProtocol)]
    if protocols:
        log.warning("%d connections are cut off after %.1f s", len(protocols), drain_s)


@asynccontextmanager
async def _lifespan(app: App) -> AsyncIterator[dict[str, Any]]:
    """Run the application's startup and shutdown. An application without lifespan support is served all the same."""
    state: dict[str, Any] = {}
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    outbox: asyncio.Queue[Message | None] = asyncio.Queue()

    async def run() -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
        try:
            await app(scope, inbox.get, outbox.put)
        except Exception as problem:
            log.debug("the application has no lifespan: %s", problem)
        finally:
            outbox.put_nowait(None)

    async def told(what: str) -> None:
        inbox.put_nowait({"type": f"lifespan.{what}"})
        answer = await outbox.get()
        if answer is not None and answer["type"] == f"lifespan.{what}.failed":
            raise RuntimeError(answer.get("message") or f"the application's {what} failed")

    task = asyncio.get_running_loop().create_task(run())
    try:
        await told("startup")
        yield state
        if not task.done():
            await told("shutdown")
    finally:
        task.cancel()
        await asyncio.wait({task})
