"""Long calls that end when the service drains, and streams that show from time to time that they are alive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from typing import Any, TypeVar

from aetheris_kernel.errors import ReplicaDraining

T = TypeVar("T")


async def unless_draining(draining: asyncio.Event, call: Awaitable[T]) -> T | None:
    """The result of `call`, or None if the drain begins first; then the call is cancelled."""
    answer = asyncio.ensure_future(call)
    drained = asyncio.ensure_future(draining.wait())
    try:
        await asyncio.wait({answer, drained}, return_when=asyncio.FIRST_COMPLETED)
        return answer.result() if answer.done() else None
    finally:
        for task in (answer, drained):
            task.cancel()
        await asyncio.wait({answer, drained})


async def until_draining(
    source: AsyncGenerator[T, None], draining: asyncio.Event, *, tick_s: float | None = None
) -> AsyncGenerator[T | None, None]:
    """The items of `source`, and None each time none came for `tick_s`. Raises ReplicaDraining when the drain
    begins. Leaving the iteration closes `source`."""
    drained = asyncio.ensure_future(draining.wait())
    upcoming: asyncio.Future[tuple[T] | None] | None = None
    try:
        while True:
            upcoming = upcoming or asyncio.ensure_future(_step(source))
            either: set[asyncio.Future[Any]] = {upcoming, drained}
            await asyncio.wait(either, timeout=tick_s, return_when=asyncio.FIRST_COMPLETED)
            if upcoming.done():
                found, upcoming = upcoming.result(), None
                if found is None:
                    return
                yield found[0]
            elif drained.done():
                raise ReplicaDraining(
                    "this gateway is stopping; another replica answers the request if it is sent again"
                )
            else:
                yield None
    finally:
        drained.cancel()
        if upcoming is not None:
            upcoming.cancel()
            await asyncio.wait({upcoming})
        await source.aclose()


async def _step(source: AsyncGenerator[T, None]) -> tuple[T] | None:
    try:
        return (await anext(source),)
    except StopAsyncIteration:
        return None
