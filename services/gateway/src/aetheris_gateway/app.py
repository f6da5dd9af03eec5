"""The gateway, built by hand in one place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

import grpc
import structlog
from aetheris_chassis import server as grpc_server
from aetheris_chassis.address import parse_address
from aetheris_chassis.client import open_channel
from aetheris_chassis.handover import tell_ready
from aetheris_chassis.migrate import require_migrated
from aetheris_chassis.postgres import open_pool
from aetheris_chassis.process import sleep_forever
from aetheris_kernel.clock import SystemClock
from aetheris_kernel.errors import Invalid
from starlette.types import ASGIApp

from aetheris_gateway import rpc
from aetheris_gateway.http import application
from aetheris_gateway.http import server as http_server
from aetheris_gateway.http.origin import AllowedHosts
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
from aetheris_gateway.waits import WaitBudget
from aetheris_gateway.wakes import JobWaker, WakeQueue

# How long the last wakes may take once neither server accepts calls any more.
_LAST_WAKES_S = 2.0


async def serve(settings: Settings, *, started: asyncio.Event | None = None) -> None:
    """Serve gRPC and HTTP until cancelled. Then all servers drain at the same time, while all that their open calls
    need still runs."""
    hosts = _required_hosts(settings)
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
        waits = WaitBudget(
            waits_max=settings.waits_max,
            per_caller_max=settings.waits_per_caller_max,
            streams_max=settings.streams_max,
        )
        jobs = JobService(scheduler, clock, draining, waits)
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
            waits=waits,
        )
        sweep = InboxSweep(store, job_waker, every_s=settings.sweep_every_s, after_s=settings.sweep_after_s)
        app = application.build(
            services,
            clock,
            checks={"database": store.healthy, "scheduler": scheduler.healthy, "ledger": ledger.healthy},
            draining=draining,
            hosts=hosts,
        )
        async with asyncio.TaskGroup() as loops:
            background = [loops.create_task(loop.run()) for loop in (services.inbox, job_waker, wake_queue, sweep)]
            try:
                await _serve_all(settings, services, app, draining, started or asyncio.Event())
            finally:
                # Wake the jobs of the entries that were accepted last. The sweep of another gateway, or of the next
                # start, wakes those for which the time is too short.
                await wake_queue.idle(_LAST_WAKES_S)
                for task in background:
                    task.cancel()


def _required_hosts(settings: Settings) -> AllowedHosts:
    """The names under which REST is called. On a network they must be given: the gateway cannot know them."""
    address = parse_address(settings.http_listen, setting="AETHERIS_HTTP_LISTEN")
    if not address.local and settings.trust_network and not settings.http_hosts:
        raise Invalid(
            f"AETHERIS_HTTP_LISTEN={address} is reached by browsers of the network: say in AETHERIS_HTTP_HOSTS under "
            "which names it is called, e.g. gateway.example, or * where a proxy checks that",
            field="AETHERIS_HTTP_HOSTS",
        )
    return AllowedHosts.parse(settings.http_hosts)


async def _serve_all(
    settings: Settings, services: GatewayServices, app: ASGIApp, draining: asyncio.Event, started: asyncio.Event
) -> None:
    """The public gRPC server, the one for runners and the HTTP server, until cancelled; `started` is set once all of
    them accept."""

    async def serve_grpc(
        accepts: asyncio.Event,
        add: Callable[[grpc.aio.Server, GatewayServices], None],
        names: Sequence[str],
        second: grpc_server.SecondPort | None,
    ) -> None:
        def add_services(server: grpc.aio.Server) -> None:
            add(server, services)

        async with grpc_server.serving(settings, "gateway", add_services, names, draining=draining, second=second):
            accepts.set()
            try:
                await sleep_forever()
            finally:
                if settings.replaceable:
                    # The HTTP server begins the drain: it first tells the clients of its kept connections to leave.
                    # Until then the gRPC servers stay as well, so that the streams of all end together.
                    await draining.wait()

    async def serve_http(accepts: asyncio.Event) -> None:
        try:
            async with http_server.serving(settings, app, draining):
                accepts.set()
                await sleep_forever()
        finally:
            draining.set()

    async with asyncio.TaskGroup() as servers:
        accepting = [asyncio.Event(), asyncio.Event(), asyncio.Event()]
        signals_port = grpc_server.SecondPort(settings.signals_listen, "AETHERIS_SIGNALS_LISTEN")
        servers.create_task(serve_grpc(accepting[0], rpc.add_public, rpc.PUBLIC, None), name="grpc")
        servers.create_task(serve_grpc(accepting[1], rpc.add_signals, rpc.SIGNALS, signals_port), name="signals")
        servers.create_task(serve_http(accepting[2]), name="http")
        for each in accepting:
            await each.wait()
        started.set()
        if settings.replaceable:
            tell_ready()
