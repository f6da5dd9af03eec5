"""The scheduler's objects, built by hand in one place."""

from __future__ import annotations

import asyncio

import grpc
from aetheris_chassis.migrate import require_migrated
from aetheris_chassis.postgres import open_pool
from aetheris_chassis.process import sleep_forever
from aetheris_chassis.server import serving
from aetheris_kernel.clock import Clock, SystemClock
from aetheris_proto.scheduler.v1 import scheduler_pb2_grpc as grpc_api

from aetheris_scheduler.loops.alarm import Alarm
from aetheris_scheduler.loops.dispatcher import Dispatcher
from aetheris_scheduler.loops.gauges import Gauges
from aetheris_scheduler.loops.leases import Leases
from aetheris_scheduler.loops.sweeper import Sweeper
from aetheris_scheduler.loops.waiters import Waiters
from aetheris_scheduler.rpc import SERVICE_NAME, SchedulerServicer
from aetheris_scheduler.runners.connection import RunnerConnections
from aetheris_scheduler.settings import Settings
from aetheris_scheduler.store.contract import Store
from aetheris_scheduler.store.postgres import PACKAGE, PostgresStore


async def serve(settings: Settings, *, started: asyncio.Event | None = None) -> None:
    async with open_pool(
        settings.database_url,
        size_max=settings.database_pool_max,
        application_name="aetheris-scheduler",
        statement_cache=settings.database_statement_cache,
        statement_s=settings.database_statement_s,
    ) as pool:
        await require_migrated(pool, PACKAGE)
        await serve_on(PostgresStore(pool), settings, SystemClock(), started=started)


async def serve_on(store: Store, settings: Settings, clock: Clock, *, started: asyncio.Event | None = None) -> None:
    """The scheduler on any store."""
    waiters = Waiters(store)
    alarm = Alarm(clock)
    connections = RunnerConnections(clock, lease_s=settings.lease_s)
    leases = Leases(store, connections, alarm, clock, lease_s=settings.lease_s)
    dispatcher = Dispatcher(
        store,
        connections,
        leases,
        alarm,
        waiters,
        clock,
        lease_s=settings.lease_s,
        grace_s=settings.grace_s,
        crash_limit=settings.crash_limit,
        queue_ready_max=settings.queue_ready_max,
    )
    sweeper = Sweeper(store, dispatcher, alarm, clock)
    servicer = SchedulerServicer(store, dispatcher, waiters, clock, stuck_after_s=settings.stuck_after_s)
    draining = asyncio.Event()

    def add(server: grpc.aio.Server) -> None:
        grpc_api.add_SchedulerServicer_to_server(servicer, server)

    async def drain() -> None:
        await draining.wait()
        dispatcher.drain()
        waiters.release()

    async with asyncio.TaskGroup() as tasks:
        loops = [
            tasks.create_task(dispatcher.run(), name="dispatcher"),
            tasks.create_task(leases.run(), name="leases"),
            tasks.create_task(sweeper.run(), name="sweeper"),
            tasks.create_task(waiters.run(), name="waiters"),
            tasks.create_task(Gauges(store).run(), name="gauges"),
            tasks.create_task(drain(), name="drain"),
        ]
        try:
            async with serving(settings, "scheduler", add, [SERVICE_NAME], draining=draining):
                if started is not None:
                    started.set()
                await sleep_forever()
        finally:
            for loop in loops:
                loop.cancel()
