"""The inbox over real gRPC: the gateway is told which entries are settled, also where it refuses some."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import grpc
from aeterna.grpc import started
from aetheris_engine.ports import Assignment
from aetheris_proto.gateway.v1 import signals_pb2 as pb
from aetheris_proto.gateway.v1 import signals_pb2_grpc as rpc
from aetheris_runner.peers.inbox import GatewayInbox


def job(number: int) -> Assignment:
    return Assignment(UUID(int=number), "default", "a", "default", b"", 1, datetime(2026, 1, 1, tzinfo=UTC))


class Gateway(rpc.SignalsServicer):
    """Refuses every request that names an entry in `refused`."""

    def __init__(self, refused: set[str]) -> None:
        self.refused = refused
        self.settled: set[str] = set()
        self.calls = 0
        self.changed = asyncio.Event()

    async def Settle(self, request: pb.SettleRequest, context: Any) -> pb.SettleResponse:
        self.calls += 1
        if self.refused & set(request.note_ids):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such entry")
        self.settled.update(request.note_ids)
        self.changed.set()
        return pb.SettleResponse()

    async def until(self, settled: set[str]) -> None:
        async with asyncio.timeout(10):
            while not settled <= self.settled:
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def settling(gateway: Gateway) -> AsyncIterator[GatewayInbox]:
    server = grpc.aio.server()
    rpc.add_SignalsServicer_to_server(gateway, server)
    port = server.add_insecure_port("127.0.0.1:0")
    async with started(server), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        inbox = GatewayInbox(channel)
        loop = asyncio.ensure_future(inbox.run())
        yield inbox
        loop.cancel()
        await asyncio.wait([loop])


async def test_c6_a_refused_entry_holds_up_no_other_job_and_no_other_entry_of_its_job() -> None:
    gateway = Gateway({"bad"})
    async with settling(gateway) as inbox:
        own = {f"own-{number}" for number in range(50)}
        inbox.settle(job(1), [*sorted(own)[:25], "bad", *sorted(own)[25:]])
        inbox.settle(job(2), ["other"])
        await gateway.until({"other", *own})

        # Still listed: until the gateway knows, it may deliver the entry again, and a checkpoint has to remember it.
        async with asyncio.timeout(10):
            while [*inbox.unsettled(job(1)), *inbox.unsettled(job(2))] != ["bad"]:  # noqa: ASYNC110 - no signal of it
                await asyncio.sleep(0)
        assert gateway.calls < 40


async def test_entries_may_be_settled_from_another_thread() -> None:
    gateway = Gateway(set())
    async with settling(gateway) as inbox:
        for number in range(20):
            await asyncio.to_thread(inbox.settle, job(1), [f"n{number}"])
        await gateway.until({f"n{number}" for number in range(20)})
