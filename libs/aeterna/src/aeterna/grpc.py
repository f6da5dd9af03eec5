"""gRPC servers that are replaced without a failed call: steer, let the connection age move the clients, then stop.

Python's grpcio cannot adopt an inherited socket, and its `stop()` cancels calls. So each generation listens on the
same port itself (SO_REUSEPORT), and a new generation steers all new connections to itself. The old one serves until
`max_connection_age` has moved every client with a GOAWAY, which fails no call, and stops at zero connections.

    async with aeterna.grpc.serving(make_server, "127.0.0.1:50051") as serving:
        await serving.retired.wait()

The price: clients reconnect every `age_s` seconds, for ever, because the age cannot be set on a running server.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from aeterna.sdk.connections import steer

if TYPE_CHECKING:
    import grpc.aio

log = logging.getLogger("aeterna.sdk")

Options = Sequence[tuple[str, Any]]
FOREVER_MS = 2**31 - 1
QUEUE_S = 0.05  # connections that were on their way to this process when another began to steer
LOOK_S = 0.02
STOP_S = 1.0


class Mode(Enum):
    STEERED = "steered"  # proven at the start: new connections come here
    SHARED = "shared"  # fall-back: the kernel's hash chooses, and connections may be lost at the end


@dataclass(slots=True)
class GrpcServing:
    server: "grpc.aio.Server"
    port: int
    mode: Mode
    drain_s: float
    retired: asyncio.Event = field(default_factory=asyncio.Event)
    left: int = 0  # connections that were cut off in the end

    def retire(self) -> None:
        """Another generation has the port: leave the `async with`. Can be passed to `client.on_retired`."""
        self.retired.set()

    @property
    def connections(self) -> int:
        return steer.established(self.port)

    async def drain(self) -> None:
        """Serve until the last connection has closed, or `drain_s` is over."""
        await asyncio.sleep(QUEUE_S)
        deadline = asyncio.get_running_loop().time() + self.drain_s
        while self.connections:
            if asyncio.get_running_loop().time() >= deadline:
                return
            await asyncio.sleep(LOOK_S)


def options(age_s: float) -> list[tuple[str, Any]]:
    """The options of a server that is to be replaced without a failed call."""
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_connection_age_ms", int(age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", FOREVER_MS),
    ]


@asynccontextmanager
async def started(server: "grpc.aio.Server", stop: Callable[[], Awaitable[None]] | None = None) -> AsyncIterator[None]:
    """Start `server`, and stop it when the block ends: by a cancellation during the start or by an exception, too.

    `stop` is called instead of `server.stop(None)`. A server that still runs when its event loop is closed is stopped
    by the garbage collector on the closed loop: gRPC then writes "Event loop is closed" to stderr.
    """
    # In a task of its own, and awaited to its end: gRPC can never stop a server whose start was cancelled halfway.
    starting = asyncio.ensure_future(server.start())
    try:
        await asyncio.shield(starting)
        yield
    finally:
        try:
            await asyncio.wait({starting})
        finally:
            await (server.stop(None) if stop is None else stop())


@asynccontextmanager
async def serving(
    make_server: "Callable[[Options], grpc.aio.Server]",
    address: str,
    *,
    age_s: float = 30.0,
    drain_s: float | None = None,
    steering: bool = True,
) -> AsyncIterator[GrpcServing]:
    """Listen on `address`, steer new connections here, and on the way out drain, then stop.

    `make_server(options)` creates the server with its services and does not start it.
    """
    server = make_server(options(age_s))
    port = server.add_insecure_port(address)
    running = GrpcServing(server, port, Mode.SHARED, 1.25 * age_s + STOP_S if drain_s is None else drain_s)
    async with started(server, lambda: asyncio.shield(_leave(running))):
        if steering:
            running.mode = await asyncio.to_thread(take_port, port)
        yield running


async def _leave(running: GrpcServing) -> None:
    await running.drain()
    running.left = running.connections
    if running.left:
        log.warning("[Aeterna-SDK] %d gRPC connections are left after %.1f s", running.left, running.drain_s)
    await running.server.stop(STOP_S)


def take_port(port: int) -> Mode:
    """Steer all new connections of `port` to this process, and prove it."""
    listeners = steer.listening(port)
    try:
        if listeners and steer.steer_here(listeners[-1], port):
            return Mode.STEERED
    finally:
        for listener in listeners:
            listener.close()
    log.warning("[Aeterna-SDK] new connections cannot be steered here: a later upgrade may lose some")
    return Mode.SHARED
