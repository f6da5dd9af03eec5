"""The HTTP server: uvicorn inside the loop that everything else runs in."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from aeterna.sdk.connections.draining import DrainingApp
from aetheris_chassis.address import Address, parse_address, require_local
from aetheris_chassis.succession import inherited
from aetheris_kernel.errors import Unavailable
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aetheris_gateway.http.errors import error_response
from aetheris_gateway.settings import Settings

log = structlog.get_logger()

HEAD_BYTES_MAX = 64 * 1024
HEAD_S = 20.0
_LINGER_S = 1.0
_LINGER_BYTES = 1024 * 1024
_BACKLOG = 2048
_KEEP_ALIVE_S = 75
# How long a client that keeps its connection has to ask once more, and hear that it was the last time.
_TOLD_S = 1.0
_LOOK_S = 0.02
# uvicorn looks every tenth of a second whether it shall stop.
_TICK_S = 0.5


class _Protocol(HttpToolsProtocol):
    """uvicorn's, with the two limits that it leaves to a proxy in front: how large the head of a request may
    be, and how long it may take to arrive."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._in_head = True
        self._overdue: asyncio.TimerHandle | None = None
        self._refused_bytes: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused_bytes is not None:
            self._refused_bytes += len(data)
            if self._refused_bytes > _LINGER_BYTES:
                self.transport.close()
            return
        self._head_bytes += len(data)
        super().data_received(data)
        # What came of a body is counted as well and does no harm: by now the head is known to be over.
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self._refuse(431, "HEAD_TOO_LARGE", f"the request's headers are larger than {HEAD_BYTES_MAX} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._in_head:
            self._head_bytes = 0
            self._await_head()

    def on_headers_complete(self) -> None:
        self._head_arrived()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "INVALID", "this is no HTTP request")

    def _await_head(self) -> None:
        self._in_head = True
        if self._overdue is None:
            self._overdue = self.loop.call_later(HEAD_S, self._too_slow)

    def _head_arrived(self) -> None:
        self._in_head = False
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _too_slow(self) -> None:
        self._overdue = None
        if not self.transport.is_closing():
            self._refuse(408, "REQUEST_TIMEOUT", f"the request's headers did not arrive within {HEAD_S:.0f} seconds")

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer below the application, where there is no request yet, and hang up. Not at once: closing while
        the client still sends would reset the connection and take the answer with it."""
        response = error_response(status, code, message, headers={"Connection": "close"})
        head = [f"HTTP/1.1 {status} {code}".encode()]
        head += [name + b": " + value for name, value in response.raw_headers]
        self.transport.write(b"\r\n".join([*head, b"", bytes(response.body)]))
        # Who only reads sees the end at once.
        self.transport.write_eof()
        self._refused_bytes = 0
        self._unset_keepalive_if_required()
        self._head_arrived()
        self.loop.call_later(_LINGER_S, self.transport.close)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are the process's matter; several services may live in it."""
        yield


@contextlib.asynccontextmanager
async def serving(settings: Settings, app: ASGIApp, draining: asyncio.Event) -> AsyncIterator[Address]:
    """Serve `app` while the block runs; then stop accepting and let open requests finish, up to `drain_s`."""
    asked = parse_address(settings.http_listen, setting="AETHERIS_HTTP_LISTEN")
    require_local(asked, setting="AETHERIS_HTTP_LISTEN", trust_network=settings.trust_network)
    lent = inherited(asked) if settings.replaceable else None
    listener = lent or _bound(asked)
    closing = DrainingApp(app)
    server = _Server(
        uvicorn.Config(
            closing,
            http=_Protocol,
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
                raise Unavailable(f"the HTTP server on {asked} ended by itself")
            await asyncio.sleep(0.001)
        address = asked if asked.path else Address(asked.host, listener.getsockname()[1])
        log.info("serving http", address=str(address))
        yield address
    finally:
        if lent is not None:
            await _outlived(server, closing, draining, settings.drain_s)
        draining.set()
        server.should_exit = True
        try:
            await asyncio.wait({running}, timeout=settings.drain_s + _TICK_S)
        finally:
            running.cancel()
            await asyncio.wait({running})
            listener.close()
            if lent is None:
                _forget(asked)


async def _outlived(server: _Server, closing: DrainingApp, draining: asyncio.Event, drain_s: float) -> None:
    """The successor accepts from the same queue. What was accepted here is answered here, streams run to their end if
    that comes in time, and nobody who keeps a connection finds it closed without having been told."""
    for each in server.servers:
        each.close()
    closing.begin()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + drain_s
    await asyncio.sleep(min(_TOLD_S, drain_s))
    while closing.requests and loop.time() < deadline:  # noqa: ASYNC110 - rarely, and not for long
        await asyncio.sleep(_LOOK_S)
    log.info("outlived http", requests=closing.requests)


def _bound(address: Address) -> socket.socket:
    try:
        if address.path:
            _forget(address)
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


def _forget(address: Address) -> None:
    if address.path:
        Path(address.path).unlink(missing_ok=True)
