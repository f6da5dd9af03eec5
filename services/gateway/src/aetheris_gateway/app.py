"""The gateway, built by hand in one place."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import grpc
import structlog
from aetheris_chassis import server
from aetheris_chassis.client import open_channel
from aetheris_chassis.migrate import require_migrated
from aetheris_chassis.postgres import open_pool
from aetheris_chassis.process import sleep_forever
from aetheris_chassis.succession import tell_ready
from aetheris_kernel.clock import SystemClock
from starlette.types import ASGIApp

from aetheris_gateway import rpc
from aetheris_gateway.approvals import ApprovalStore
from aetheris_gateway.desk import Approvals, Desk, Effects, Inbox, Jobs, Record, Tokens
from aetheris_gateway.http import application, door
from aetheris_gateway.identity import Identity
from aetheris_gateway.peers import Ledger, Scheduler
from aetheris_gateway.settings import Settings
from aetheris_gateway.store import NoteStore
from aetheris_gateway.sweep import Sweep
from aetheris_gateway.tokens import TokenKeys
from aetheris_gateway.wakes import Rouser, Waker

# How long the last wakes may take once both doors are shut.
_LAST_WAKES_S = 2.0


async def serve(settings: Settings, *, started: asyncio.Event | None = None) -> None:
    """Until cancelled; then both doors drain at once, while everything their calls need still runs."""
    structlog.contextvars.bind_contextvars(service="gateway")
    clock, draining = SystemClock(), asyncio.Event()
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            open_pool(
                settings.database_url,
                size_max=settings.database_pool_max,
                application_name="aetheris-gateway",
                statement_cache=settings.database_statement_cache,
            )
        )
        await require_migrated(pool, "aetheris_gateway")
        scheduler = Scheduler(await stack.enter_async_context(open_channel(settings.scheduler_address)))
        ledger = Ledger(await stack.enter_async_context(open_channel(settings.ledger_address)))
        store = NoteStore(pool)
        rouser = Rouser(scheduler, store)
        waker = Waker(rouser)
        jobs = Jobs(scheduler, clock, draining)
        inbox = Inbox(store, jobs, waker, clock)
        desk = Desk(
            jobs,
            Record(ledger, jobs, draining),
            inbox,
            Approvals(ApprovalStore(pool), jobs, waker, clock),
            Tokens(TokenKeys(pool), store, inbox, clock),
            Effects(ledger, scheduler, jobs),
            Identity(local=not settings.trust_network),
        )
        sweep = Sweep(store, rouser, every_s=settings.sweep_every_s, after_s=settings.sweep_after_s)
        app = application.build(
            desk,
            clock,
            checks={"database": store.healthy, "scheduler": scheduler.healthy, "ledger": ledger.healthy},
            draining=draining,
            streams_max=settings.streams_max,
            local=not settings.trust_network,
        )
        async with asyncio.TaskGroup() as loops:
            background = [loops.create_task(loop.run()) for loop in (desk.inbox, rouser, waker, sweep)]
            try:
                await _doors(settings, desk, app, draining, started or asyncio.Event())
            finally:
                # What was accepted last is still told to the scheduler; what is not, the sweep finds.
                await waker.idle(_LAST_WAKES_S)
                for task in background:
                    task.cancel()


async def _doors(settings: Settings, desk: Desk, app: ASGIApp, draining: asyncio.Event, started: asyncio.Event) -> None:
    async def grpc_door(open_: asyncio.Event) -> None:
        def add(grpc_server: grpc.aio.Server) -> None:
            rpc.add_to(grpc_server, desk)

        async with server.serving(settings, "gateway", add, rpc.SERVICES, draining=draining):
            open_.set()
            try:
                await sleep_forever()
            finally:
                if settings.replaceable:
                    # Streams of both doors end together, and those of this one are not the first to be done.
                    await draining.wait()

    async def http_door(open_: asyncio.Event) -> None:
        try:
            async with door.serving(settings, app, draining):
                open_.set()
                await sleep_forever()
        finally:
            draining.set()

    async with asyncio.TaskGroup() as doors:
        opened = [asyncio.Event(), asyncio.Event()]
        doors.create_task(grpc_door(opened[0]), name="grpc")
        doors.create_task(http_door(opened[1]), name="http")
        for each in opened:
            await each.wait()
        started.set()
        if settings.replaceable:
            tell_ready()
