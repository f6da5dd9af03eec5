"""A peer that falls silent is noticed within 15 seconds, by the client and by the server."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from aeterna.grpc import started
from aetheris_chassis.client import open_channel

from harness.probe import SERVICE, Probe, probing
from harness.stalling_proxy import StallingProxy, Way

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(60)]

# A peer is noticed within 15 seconds; without the pings that see to that it would take a minute.
PATIENCE_S = 30.0
PATH = f"/{SERVICE}/WritingBothWays"


async def test_a_caller_notices_that_nothing_comes_back_any_more() -> None:
    """The server here has no pings of its own."""

    async def both_ways(_: object, context: grpc.aio.ServicerContext) -> None:
        while await context.read() is not grpc.aio.EOF:
            await context.write(b"here")

    server = grpc.aio.server()
    handlers = {"WritingBothWays": grpc.stream_stream_rpc_method_handler(both_ways)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    async with (
        started(server),
        StallingProxy(f"127.0.0.1:{port}") as proxy,
        open_channel(proxy.address) as channel,
    ):
        call = channel.stream_stream(PATH)()
        await call.write(b"hello")
        assert await call.read() == b"here"
        proxy.hold(Way.BACK)
        with pytest.raises(grpc.aio.AioRpcError) as lost:
            await asyncio.wait_for(call.read(), PATIENCE_S)

        assert lost.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_server_notices_that_a_caller_says_nothing_any_more() -> None:
    """The caller here has no pings of its own."""
    over = asyncio.Event()

    class Watched(Probe):
        async def _writing_both_ways(self, requests: object, context: grpc.aio.ServicerContext) -> None:
            try:
                await super()._writing_both_ways(requests, context)
            finally:
                over.set()

    async with (
        probing(Watched()) as (serving, _),
        StallingProxy(serving.address) as proxy,
        grpc.aio.insecure_channel(proxy.address) as channel,
    ):
        call = channel.stream_stream(PATH)()
        await call.write(b"hello")
        assert await call.read() == b"hello"
        proxy.hold(Way.THERE)
        await asyncio.wait_for(over.wait(), PATIENCE_S)
