"""A gRPC service with every kind of call, each written in every way that grpc.aio offers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from aetheris_chassis.client import open_channel
from aetheris_chassis.server import RunningServer, serving
from aetheris_chassis.settings import ServiceSettings

SERVICE = "aetheris.harness.Probe"
METHODS = ("Unary", "Collect", "Yielding", "Writing", "YieldingBothWays", "WritingBothWays")
BOTH_WAYS = METHODS[4:]

_EOF: Any = vars(grpc.aio)["EOF"]


async def echo(request: bytes) -> bytes:
    return request


class Probe:
    """Every handler awaits `answer` with each request, and raises what that raises."""

    def __init__(self, answer: Callable[[bytes], Awaitable[bytes]] = echo) -> None:
        self.answer = answer
        self.draining = asyncio.Event()
        self.contexts: list[Any] = []

    async def _unary(self, request: bytes, context: Any) -> bytes:
        self.contexts.append(context)
        return await self.answer(request)

    async def _collect(self, requests: Any, context: Any) -> bytes:
        return b"".join([await self.answer(request) async for request in requests])

    async def _yielding(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield await self.answer(request)

    async def _writing(self, request: bytes, context: Any) -> None:
        await context.write(await self.answer(request))

    async def _yielding_both_ways(self, requests: Any, context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield await self.answer(request)

    async def _writing_both_ways(self, requests: Any, context: Any) -> None:
        self.contexts.append(context)
        while (request := await context.read()) is not _EOF:
            await context.write(await self.answer(request))

    def add(self, server: grpc.aio.Server) -> None:
        handlers: dict[str, Any] = {
            "Unary": grpc.unary_unary_rpc_method_handler(self._unary),
            "Collect": grpc.stream_unary_rpc_method_handler(self._collect),
            "Yielding": grpc.unary_stream_rpc_method_handler(self._yielding),
            "Writing": grpc.unary_stream_rpc_method_handler(self._writing),
            "YieldingBothWays": grpc.stream_stream_rpc_method_handler(self._yielding_both_ways),
            "WritingBothWays": grpc.stream_stream_rpc_method_handler(self._writing_both_ways),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


@asynccontextmanager
async def probing(
    probe: Probe, *, listen: str = "127.0.0.1:0", ready: Callable[[], bool] = lambda: True, **settings: Any
) -> AsyncIterator[tuple[RunningServer, grpc.aio.Channel]]:
    """`probe` behind a real server, and a channel to it that outlives the drain."""
    channels: list[Any] = []
    own = ServiceSettings(listen=listen, **settings)
    server = serving(own, "probe", probe.add, [SERVICE], draining=probe.draining, ready=ready)
    try:
        async with server as accepting:
            channels.append(open_channel(accepting.address))
            yield accepting, channels[0]
    finally:
        for channel in channels:
            # Let responses that are under way arrive.
            await channel.close(5)


async def ask(channel: Any, method: str, *requests: bytes) -> list[bytes]:
    """All responses of `method`. A method that takes one request gets the first."""
    path = f"/{SERVICE}/{method}"

    async def stream() -> AsyncIterator[bytes]:
        for request in requests:
            yield request

    match method:
        case "Unary":
            return [await channel.unary_unary(path)(requests[0])]
        case "Collect":
            return [await channel.stream_unary(path)(stream())]
        case "Yielding" | "Writing":
            return [answer async for answer in channel.unary_stream(path)(requests[0])]
    return [answer async for answer in channel.stream_stream(path)(stream())]
