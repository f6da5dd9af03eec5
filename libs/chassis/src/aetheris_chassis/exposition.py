"""Serves GET /metrics and /healthz, on the service's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from prometheus_client import CONTENT_TYPE_LATEST

from aetheris_chassis import handover, metrics
from aetheris_chassis.address import Address, parse_address, require_local

_HEAD_BYTES = 16_384


@asynccontextmanager
async def exposing(
    listen: str, *, trust_network: bool, healthy: Callable[[], bool], request_s: float = 5.0
) -> AsyncIterator[Address]:
    """Serve on `listen`, host:port, while the block runs. A client that sends nothing for `request_s` is cut off."""
    asked = parse_address(listen, setting="AETHERIS_METRICS_LISTEN")
    require_local(asked, setting="AETHERIS_METRICS_LISTEN", trust_network=trust_network)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(request_s):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_response(head, healthy))
                await writer.drain()
        except (TimeoutError, OSError, EOFError, asyncio.LimitOverrunError):
            # A client that hangs, leaves or sends no HTTP gets no answer.
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    lent = handover.lent_listener(asked)
    if lent is not None:
        server = await asyncio.start_server(answer, sock=lent, limit=_HEAD_BYTES)
    else:
        server = await asyncio.start_server(answer, asked.host, asked.port, limit=_HEAD_BYTES)
    try:
        yield Address(asked.host, server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await server.wait_closed()


def _response(head: bytes, healthy: Callable[[], bool]) -> bytes:
    words = head.split(b"\r\n", 1)[0].split(b" ")
    if len(words) != 3 or words[0] not in (b"GET", b"HEAD"):
        status, kind, body = "405 Method Not Allowed", "text/plain", b"GET only\n"
    else:
        match words[1].split(b"?", 1)[0]:
            case b"/metrics":
                status, kind, body = "200 OK", CONTENT_TYPE_LATEST, metrics.exposition()
            case b"/healthz":
                up = healthy()
                status, kind = ("200 OK" if up else "503 Service Unavailable"), "text/plain"
                body = b"ok\n" if up else b"draining\n"
            case _:
                status, kind, body = "404 Not Found", "text/plain", b"/metrics or /healthz\n"
    headers = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return headers.encode() + (b"" if words[0] == b"HEAD" else body)
