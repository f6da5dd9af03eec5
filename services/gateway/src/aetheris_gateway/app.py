"""The gateway, built by hand in one place."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import grpc
import structlog
from aetheris_chassis import server as grpc_server
from aetheris_chassis.client import open_channel
from aetheris_chassis.handover import tell_ready
from aetheris_chassis.migrate import require_migrated
from aetheris_chassis.postgres import open_pool
from aetheris_chassis.process import sleep_forever
from aetheris_kernel.clock import SystemClock
from starlette.types import ASGIApp

from aetheris_gateway import rpc
from aetheris_gateway.http import application
from aetheris_gateway.http import server as http_server
from aetheris_gateway.identity import Identity
from aetheris_gateway.peers import Ledger, Scheduler
from aetheris_gateway.service import (
    ApprovalService,
    EffectService,
    ForkService,
    GatewayServices,
    InboxService,
    JobService,
    RecordService,
    TokenService,
)
from aetheris_gateway.settings import Settings
from aetheris_gateway.store.approvals import ApprovalStore
from aetheris_gateway.store.inbox import InboxStore
from aetheris_gateway.store.tokens import TokenKeys
from aetheris_gateway.sweep import InboxSweep
from aetheris_gateway.wakes import JobWaker, WakeQueue

# How long the last wakes may take once neither server accepts calls any more.
_LAST_WAKES_S = 2.0


async def serve(settings: Settings, *, started: asyncio.Event | None = None) -> None:
    """Serve gRPC and HTTP until cancelled. Then both servers drain at the same time, while all that their open calls
    need still runs."""
    structlog.contextvars.bind_contextvars(service="gateway")
    clock, draining = SystemClock(), asyncio.Event()
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            open_pool(
                settings.database_url,
                size_max=settings.database_pool_max,
                application_name="aetheris-gateway",
                statement_cache=settings.database_statement_cache,
                statement_s=settings.database_statement_s,
            )
        )
        await require_migrated(pool, "aetheris_gateway")
        scheduler = Scheduler(await stack.enter_async_context(open_channel(settings.scheduler_address)))
        ledger = Ledger(await stack.enter_async_context(open_channel(settings.ledger_address)))
        store = InboxStore(pool)
        job_waker = JobWaker(scheduler, store)
        wake_queue = WakeQueue(job_waker)
        jobs = JobService(scheduler, clock, draining)
        inbox = InboxService(store, jobs, wake_queue, clock)
        record = RecordService(ledger, jobs, draining)
        services = GatewayServices(
            jobs=jobs,
            forks=ForkService(jobs, record),
            record=record,
            inbox=inbox,
            approvals=ApprovalService(ApprovalStore(pool), jobs, wake_queue, clock),
            tokens=TokenService(TokenKeys(pool), store, inbox, clock),
            effects=EffectService(ledger, scheduler, jobs),
            identity=Identity(local=not settings.trust_network),
        )
        sweep = InboxSweep(store, job_waker, every_s=settings.sweep_every_s, after_s=settings.sweep_after_s)
        app = application.build(
            services,
            clock,
            checks={"database": store.healthy, "scheduler": scheduler.healthy, "ledger": ledger.healthy},
            draining=draining,
            streams_max=settings.streams_max,
            local=not settings.trust_network,
        )
        async with asyncio.TaskGroup() as loops:
            background = [loops.create_task(loop.run()) for loop in (services.inbox, job_waker, wake_queue, sweep)]
            try:
                await _serve_both(settings, services, app, draining, started or asyncio.Event())
            finally:
                # Wake the jobs of the entries that were accepted last. The sweep of another gateway, or of the next
                # start, wakes those for which the time is too short.
                await wake_queue.idle(_LAST_WAKES_S)
                for task in background:
                    task.cancel()


async def _serve_both(
    settings: Settings, services: GatewayServices, app: ASGIApp, draining: asyncio.Event, started: asyncio.Event
) -> None:
    """The gRPC server and the HTTP server, until cancelled; `started` is set once both accept."""

    async def serve_grpc(accepts: asyncio.Event) -> None:
        def add(server: grpc.aio.Server) -> None:
            rpc.add_to(server, services)

        async with grpc_server.serving(settings, "gateway", add, rpc.SERVICES, draining=draining):
            accepts.set()
            try:
                await sleep_forever()
            finally:
                if settings.replaceable:
                    # The HTTP server begins the drain: it first tells the clients of its kept connections to leave.
                    # Until then the gRPC server stays as well, so that the streams of both end together.
                    await draining.wait()

    async def serve_http(accepts: asyncio.Event) -> None:
        try:
            async with http_server.serving(settings, app, draining):
                accepts.set()
                await sleep_forever()
        finally:
            draining.set()

    async with asyncio.TaskGroup() as servers:
        accepting = [asyncio.Event(), asyncio.Event()]
        servers.create_task(serve_grpc(accepting[0]), name="grpc")
        servers.create_task(serve_http(accepting[1]), name="http")
        for each in accepting:
            await each.wait()
        started.set()
        if settings.replaceable:
            tell_ready()
