"""The HTTP server: uvicorn on the event loop of the gateway, from its socket to the end of its drain."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Generator
from pathlib import Path

import structlog
import uvicorn
from aeterna.sdk.connections.draining import DrainingApp
from aetheris_chassis.address import Address, parse_address, require_local
from aetheris_chassis.handover import lent_listener
from aetheris_kernel.errors import Unavailable
from starlette.types import ASGIApp

from aetheris_gateway.http.protocol import LimitedProtocol
from aetheris_gateway.settings import Settings

log = structlog.get_logger()

_BACKLOG = 2048
_KEEP_ALIVE_S = 75
# How long a client with a kept connection has to send one more request, whose answer says that the connection closes.
_LAST_REQUEST_S = 1.0
_POLL_S = 0.02
# uvicorn looks every tenth of a second whether it has to stop; this is more than that.
_STOP_S = 0.5


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """uvicorn must not install signal handlers: the process does, and other services may run in it."""
        yield


@contextlib.asynccontextmanager
async def serving(settings: Settings, app: ASGIApp, draining: asyncio.Event) -> AsyncIterator[Address]:
    """Serve `app` while the block runs; then stop accepting and let open requests finish, up to `drain_s`."""
    asked = parse_address(settings.http_listen, setting="AETHERIS_HTTP_LISTEN")
    require_local(asked, setting="AETHERIS_HTTP_LISTEN", trust_network=settings.trust_network)
    inherited_listener = lent_listener(asked) if settings.replaceable else None
    listener = inherited_listener or _listen(asked)
    closing = DrainingApp(app)
    server = _Server(
        uvicorn.Config(
            closing,
            http=LimitedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(settings.drain_s)),
        )
    )
    running = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        while not server.started:
            if running.done():
                running.result()
                raise Unavailable(f"the HTTP server on {asked} ended unexpectedly")
            await asyncio.sleep(0.001)
        address = asked if asked.path else Address(asked.host, listener.getsockname()[1])
        log.info("serving http", address=str(address))
        yield address
    finally:
        if inherited_listener is not None:
            await _drain_beside_successor(server, closing, draining, settings.drain_s)
        draining.set()
        server.should_exit = True
        try:
            await asyncio.wait({running}, timeout=settings.drain_s + _STOP_S)
        finally:
            running.cancel()
            await asyncio.wait({running})
            listener.close()
            if inherited_listener is None:
                _unlink(asked)


async def _drain_beside_successor(
    server: _Server, closing: DrainingApp, draining: asyncio.Event, drain_s: float
) -> None:
    """The drain of a process that has a successor, which accepts from the same listener. Requests that this process
    accepted are answered here, streams may run to their end within `drain_s`, and a client with a kept connection first
    gets an answer that announces its close."""
    for each in server.servers:
        each.close()
    closing.begin()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + drain_s
    await asyncio.sleep(min(_LAST_REQUEST_S, drain_s))
    while closing.requests and loop.time() < deadline:  # noqa: ASYNC110 - only during an upgrade
        await asyncio.sleep(_POLL_S)
    log.info("outlived http", requests=closing.requests)


def _listen(address: Address) -> socket.socket:
    try:
        if address.path:
            _unlink(address)
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(address.path)
        else:
            family, kind, protocol, _, name = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
            listener = socket.socket(family, kind, protocol)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(name)
        listener.listen(_BACKLOG)
    except OSError as failure:
        raise Unavailable(f"cannot listen on {address}: is another process there?") from failure
    listener.setblocking(False)
    return listener


def _unlink(address: Address) -> None:
    if address.path:
        Path(address.path).unlink(missing_ok=True)
