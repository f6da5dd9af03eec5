"""One bidirectional stream, both ways at once, until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc

Frame = TypeVar("Frame")


async def converse(
    call: grpc.aio.StreamStreamCall[Frame, Any],
    next_frame: Callable[[], Awaitable[Frame]],
    heard: Callable[[Any], None],
) -> grpc.aio.AioRpcError | None:
    """Write what `next_frame` gives and hand what is read to `heard`. Returns how the stream ended:
    the peer's error, or None where it said goodbye or `call` was cancelled by somebody here."""

    async def write() -> None:
        while True:
            await call.write(await next_frame())

    writer = asyncio.get_running_loop().create_task(write())
    try:
        while (response := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            heard(response)
        return None
    except grpc.aio.AioRpcError as error:
        return error
    except asyncio.CancelledError:
        # A read raises this for a call that was cancelled, too, whatever its status says: the peer's may have been
        # faster. Let out, it would end a task that nobody cancelled.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return None
    finally:
        writer.cancel()
        # A write that failed says nothing that the read does not say better.
        await asyncio.gather(writer, return_exceptions=True)
        call.cancel()
