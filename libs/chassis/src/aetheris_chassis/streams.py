"""A bidirectional stream from the client's side: written and read at the same time, until it ends.

A stream ends for the writer and the reader at different moments. The reader learns from gRPC how it ended; the writer
may learn only that it did. So the reader decides, and `status.refusal_from` reads the codes for both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
from aetheris_kernel.errors import Refusal, Unavailable

from aetheris_chassis.status import refusal_from

Frame = TypeVar("Frame")


async def write(call: grpc.aio.StreamStreamCall[Frame, Any], frame: Frame) -> None:
    """Write one frame. Raises Unavailable where the stream has ended: only a read says why."""
    try:
        await call.write(frame)
    except grpc.aio.AioRpcError as error:
        raise Unavailable("the stream ended while it was written") from error
    except asyncio.InvalidStateError as ended:
        # gRPC raises this once the call is done, also where it ended in order.
        raise Unavailable("the stream has ended") from ended


async def converse(
    call: grpc.aio.StreamStreamCall[Frame, Any],
    next_frame: Callable[[], Awaitable[Frame]],
    heard: Callable[[Any], None],
) -> Refusal | None:
    """Write what `next_frame` returns and hand each response to `heard`, until the stream ends.

    Returns how it ended: the peer's refusal, Unavailable where the peer is away, or None where the peer closed the
    stream in order or `call.cancel()` was called. A failure of `next_frame` or `heard` ends the stream and is raised.
    """

    async def send() -> None:
        try:
            while True:
                await write(call, await next_frame())
        except Unavailable:
            # The read below returns how the stream ended.
            pass
        except Exception:
            call.cancel()
            raise

    sender = asyncio.get_running_loop().create_task(send())
    end: Refusal | None = None
    try:
        while (response := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            heard(response)
    except grpc.aio.AioRpcError as error:
        end = refusal_from(error)
    except asyncio.CancelledError:
        # A read raises this for a cancelled call, too, although the call's status may be the peer's, if the peer was
        # faster. Raised again, it would end this task, which was not cancelled.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
    finally:
        sender.cancel()
        (failure,) = await asyncio.gather(sender, return_exceptions=True)
        call.cancel()
    if isinstance(failure, Exception):
        raise failure
    return end
