"""The ledger's objects, built by hand in one place."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import grpc
from aetheris_chassis.migrate import require_migrated
from aetheris_chassis.postgres import open_pool
from aetheris_chassis.process import sleep_forever
from aetheris_chassis.server import serving
from aetheris_kernel.clock import SystemClock
from aetheris_proto.ledger.v1.ledger_pb2_grpc import add_LedgerServicer_to_server

from aetheris_ledger.journal_stream import Bounds
from aetheris_ledger.partitions import add_ahead
from aetheris_ledger.reader import ChainReader
from aetheris_ledger.rpc import LedgerServicer
from aetheris_ledger.settings import Settings
from aetheris_ledger.store.postgres import PostgresStore
from aetheris_ledger.watch import Watches
from aetheris_ledger.writer import append_writer

SERVICE = "aetheris.ledger.v1.Ledger"


async def serve(settings: Settings, *, started: asyncio.Event | None = None) -> None:
    """Serve until cancelled. Calls in flight are then answered, and their appends are durable."""
    readers_max = settings.database_pool_max - 1
    clock = SystemClock()
    draining = asyncio.Event()
    async with AsyncExitStack() as stack:
        writing, reading = [
            await stack.enter_async_context(
                open_pool(
                    settings.database_url,
                    size_max=size_max,
                    application_name="aetheris-ledger",
                    statement_cache=settings.database_statement_cache,
                    # Planning an append costs three times as much as its execution. Tests look at these very plans.
                    keep_plans=True,
                    statement_s=settings.database_statement_s,
                )
            )
            for size_max in (1, readers_max)
        ]
        await require_migrated(reading, "aetheris_ledger")
        store = PostgresStore(writing, reading, clock)
        reader = ChainReader(store)
        watches = Watches(store, reader, watchers_max=settings.watchers_max, poll_s=settings.watch_poll_s)
        appends = append_writer(store, watches, rows_max=settings.batch_rows_max, queue_max=settings.batch_queue_max)
        servicer = LedgerServicer(
            store,
            appends,
            reader,
            watches,
            clock,
            bounds=Bounds(settings.stream_requests_max, settings.stream_bytes_max, settings.stream_loads_max),
            body_format=settings.body_format,
            verifies_max=max(1, readers_max // 2),
            draining=draining,
        )

        def add(server: grpc.aio.Server) -> None:
            add_LedgerServicer_to_server(servicer, server)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(appends.run(), name="appends")
            tasks.create_task(reader.run(), name="loads")
            tasks.create_task(watches.run(), name="watches")
            tasks.create_task(add_ahead(store, clock), name="partitions")
            tasks.create_task(_close_when(draining, watches), name="drain")
            async with serving(settings, "ledger", add, [SERVICE], draining=draining):
                if started is not None:
                    started.set()
                await sleep_forever()


async def _close_when(draining: asyncio.Event, watches: Watches) -> None:
    await draining.wait()
    watches.close()
