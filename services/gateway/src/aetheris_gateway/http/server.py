"""The HTTP server: uvicorn on the event loop of the gateway, from its socket to the end of its drain."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Generator
from pathlib import Path

import structlog
import uvicorn
from aeterna.sdk.connections.accept_loop import AcceptLoop
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
# How long a client that has just connected has to send its first request.
_FIRST_REQUEST_S = 1.0
_POLL_S = 0.02
# uvicorn looks every tenth of a second whether it has to stop; this is more than that.
_STOP_S = 0.5


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """uvicorn must not install signal handlers: the process does, and other services may run in it."""
        yield


class _Connections:
    """Gives connections that were accepted to uvicorn's protocol."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._opening: set[asyncio.Task[None]] = set()

    def open(self, sock: socket.socket) -> None:
        task = asyncio.ensure_future(self._open(sock))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, sock: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, sock)
        except OSError:
            # The client is gone again.
            sock.close()

    def _protocol(self) -> LimitedProtocol:
        return LimitedProtocol(config=self._server.config, server_state=self._server.server_state, app_state={})

    @property
    def silent(self) -> bool:
        """Whether there is a connection on which no request has arrived yet."""
        return bool(self._opening) or any(
            isinstance(each, LimitedProtocol) and each.cycle is None and not each.transport.is_closing()
            for each in self._server.server_state.connections
        )


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
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(settings.drain_s)),
        )
    )
    connections = _Connections(server)
    accept_loop = AcceptLoop(listener, connections.open)
    # uvicorn gets no listener: it would end accepting with `Server.close()`, which resets connections.
    running = asyncio.ensure_future(server.serve(sockets=[]))
    try:
        while not server.started:
            if running.done():
                running.result()
                raise Unavailable(f"the HTTP server on {asked} ended unexpectedly")
            await asyncio.sleep(0.001)
        accept_loop.start()
        address = asked if asked.path else Address(asked.host, listener.getsockname()[1])
        log.info("serving http", address=str(address))
        yield address
    finally:
        accept_loop.stop()
        try:
            if inherited_listener is not None:
                await _drain_beside_successor(closing, settings.drain_s)
            else:
                draining.set()
                _unlink(asked)
                await _serve_accepted(accept_loop, connections, closing, settings.drain_s)
        finally:
            draining.set()
            listener.close()
            await _shut_down(server, running, settings.drain_s)


async def _serve_accepted(
    accept_loop: AcceptLoop, connections: _Connections, closing: DrainingApp, drain_s: float
) -> None:
    """Take the connections that the kernel has accepted, and wait until each has sent a request: a client that got
    through gets an answer. uvicorn would close a connection without a request, and so reset the request under way."""
    closing.begin()
    accept_loop.finish()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + min(_FIRST_REQUEST_S, drain_s)
    while connections.silent and loop.time() < deadline:
        await asyncio.sleep(_POLL_S)
        accept_loop.finish()


async def _drain_beside_successor(closing: DrainingApp, drain_s: float) -> None:
    """The drain of a process that has a successor, which accepts from the same listener. Requests that this process
    accepted are answered here, streams may run to their end within `drain_s`, and a client with a kept connection first
    gets an answer that announces its close."""
    closing.begin()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + drain_s
    await asyncio.sleep(min(_LAST_REQUEST_S, drain_s))
    while closing.requests and loop.time() < deadline:  # noqa: ASYNC110 - only during an upgrade
        await asyncio.sleep(_POLL_S)
    log.info("outlived http", requests=closing.requests)


async def _shut_down(server: _Server, running: asyncio.Future[None], drain_s: float) -> None:
    """Let uvicorn finish the open requests, and cancel it when `drain_s` is over."""
    server.should_exit = True
    try:
        await asyncio.wait({running}, timeout=drain_s + _STOP_S)
    finally:
        running.cancel()
        await asyncio.wait({running})


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
