"""The gRPC server of a service, from its first call to its last.

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(writer.run())
        async with serving(settings, "ledger", add, ["aetheris.ledger.v1.Ledger"]):
            await sleep_forever()

Nested like this, a cancellation first drains the server, while the loops that its calls need still run, and only then
ends the loops.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aeterna.grpc
import grpc
import structlog
from aetheris_kernel.errors import Unavailable
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from aetheris_chassis import handover, health, traces
from aetheris_chassis.address import Address, parse_address, require_local
from aetheris_chassis.calls import Calls
from aetheris_chassis.exposition import exposing
from aetheris_chassis.settings import ServiceSettings

log = structlog.get_logger()

MESSAGE_MAX_BYTES = 16 * 1024 * 1024

_OPTIONS: tuple[tuple[str, int], ...] = (
    # Off, because two processes on one port would share its calls by mistake. `handover` turns it on for upgrades.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
    ("grpc.max_send_message_length", MESSAGE_MAX_BYTES),
    # Clients ping an idle connection to learn early that it is dead; the server must not close it for that.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # A ping has its own timeout, a minute by default, and gRPC uses the longer of the two.
    ("grpc.http2.ping_timeout_ms", 5_000),
)
# How long handlers may take for their `finally` blocks after their calls were cut off.
_LEAVE_S = 5.0


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that accepts calls."""

    address: str
    metrics_address: str
    # Set when the drain begins. Endless streams watch it and end.
    draining: asyncio.Event


@dataclass(frozen=True, slots=True)
class SecondPort:
    """Where one more server of a process listens, and the setting that says so."""

    listen: str
    setting: str


@asynccontextmanager
async def serving(
    settings: ServiceSettings,
    name: str,
    add: Callable[[grpc.aio.Server], None],
    service_names: Sequence[str],
    *,
    draining: asyncio.Event | None = None,
    second: SecondPort | None = None,
    ready: Callable[[], bool] = lambda: True,
) -> AsyncIterator[RunningServer]:
    """Serve what `add` registers while the block runs; then finish the calls in flight, within `drain_s`.

    A servicer that watches the drain needs the event before the server exists: pass the same event as `draining`.
    While `ready` answers no, a readiness probe is told so. `second` makes it one more server of the process, leaving
    the metrics to the first.
    """
    port = second or SecondPort(settings.listen, "AETHERIS_LISTEN")
    asked = parse_address(port.listen, setting=port.setting)
    require_local(asked, setting=port.setting, trust_network=settings.trust_network)
    # All lines that are logged from here on name the service, also those of its calls.
    structlog.contextvars.bind_contextvars(service=name)
    draining = draining or asyncio.Event()
    calls = Calls()
    options = {**dict(_OPTIONS), **handover.grpc_options(settings, asked)}
    server = grpc.aio.server(interceptors=[*traces.server_interceptors(), calls], options=list(options.items()))
    add(server)
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(service_names, draining, ready), server)
    reflection.enable_server_reflection((*service_names, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    async with AsyncExitStack() as stack:
        # Opened before the server and so closed after it: probes can see the drain.
        scraped = ""
        if settings.metrics_listen and second is None:
            exposed = exposing(
                settings.metrics_listen,
                trust_network=settings.trust_network,
                healthy=lambda: not draining.is_set(),
            )
            scraped = str(await stack.enter_async_context(exposed))
        bound = _bound(server, asked)
        address = str(bound)

        async def stop() -> None:
            drain_s = 0.0
            try:
                await handover.until_clients_moved(settings, bound.port)
                # Not after a cancellation: it is the second one, which skips the drain.
                drain_s = settings.drain_s
            finally:
                draining.set()
                await _drained(server, calls, drain_s)

        async with aeterna.grpc.started(server, stop):
            await handover.take_port(settings, bound.port)
            log.info("serving", address=address, metrics_address=scraped)
            yield RunningServer(address, scraped, draining)


def _bound(server: grpc.aio.Server, asked: Address) -> Address:
    try:
        port = server.add_insecure_port(str(asked))
    except RuntimeError as failure:
        raise Unavailable(f"cannot listen on {asked}: is another process there?") from failure
    return asked if asked.path else Address(asked.host, port)


async def _drained(server: grpc.aio.Server, calls: Calls, drain_s: float) -> None:
    """Refuse new calls and wait for those in flight. If this is cancelled, they are cut off."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    stopping: asyncio.Future[Any] = asyncio.ensure_future(server.stop(drain_s))
    try:
        await asyncio.wait({stopping})
    finally:
        if not stopping.done():
            await server.stop(None)
        await stopping
        with suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await calls.idle()
        log.info("drained", seconds=round(loop.time() - began, 3))
