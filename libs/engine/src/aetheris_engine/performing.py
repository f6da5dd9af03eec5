"""A step's or tool's own code, for as long as it may take.

    begin ──► ended by itself ──► what it brought
          ├─► over its time, or silent for too long ──► TimeoutError
          └─► its branch is cancelled ──► so is it

A coroutine is cancelled. A thread cannot be: it is left behind, and `left` is given it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import Any

from aetheris.definitions import Executed
from aetheris.driving.failures import EXITS, described, revived

# How long code that is over its time may take to unwind before it is left behind.
_UNWIND_S = 1.0

Left = Callable[[asyncio.Future[Any]], None]


class Beats:
    """The life signs of one call: `aetheris.heartbeat` in its code."""

    def __init__(self, tell: Callable[[float | None, str], None]) -> None:
        self._tell = tell
        self.last = monotonic()

    def beat(self, fraction: float | None, note: str) -> None:
        self.last = monotonic()
        self._tell(fraction, note)


def forget(running: asyncio.Future[Any]) -> None:
    """What it still brings is of no use to anybody."""
    running.add_done_callback(lambda ended: None if ended.cancelled() else ended.exception())


async def perform(
    definition: Executed[Any], arguments: dict[str, Any], beats: Beats, left: Left = forget, **injected: Any
) -> Any:
    """What the code returns or raises; TimeoutError where it is given up on."""
    if definition.plain:
        try:
            return await definition.call(arguments, **injected)
        except asyncio.CancelledError:
            raise_if_cancelled()
            raise from_within(definition) from None
    running: asyncio.Future[Any]
    if definition.is_async:
        running = asyncio.get_running_loop().create_task(_contained(definition, arguments, injected))
    else:
        running = definition.begin(arguments, **injected)
    try:
        over = await _over(running, definition, beats)
    except asyncio.CancelledError:
        if not definition.is_async:
            left(running)
            raise
        running.cancel()
        await asyncio.wait({running})
        return running.result()
    if over:
        await _give_up(running, definition, over, left)
    if running.cancelled():
        raise from_within(definition)
    return running.result()


def raise_if_cancelled() -> None:
    """While a CancelledError is handled: raise it again unless nobody asked this task to stop."""
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise


def from_within(definition: Executed[Any]) -> Exception:
    return RuntimeError(f"{definition.name} was cancelled from within")


async def _contained(definition: Executed[Any], arguments: dict[str, Any], injected: dict[str, Any]) -> Any:
    # A task that raises an exit takes the event loop with it.
    try:
        return await definition.call(arguments, **injected)
    except EXITS as error:
        raise revived(described(error)) from error


async def _over(running: asyncio.Future[Any], definition: Executed[Any], beats: Beats) -> str:
    """Which limit the code is over; nothing where it ended by itself."""
    began = monotonic()
    timeout, heartbeat = definition.timeout, definition.heartbeat
    while True:
        left: list[tuple[float, str]] = []
        if timeout is not None:
            left.append((began + timeout.total_seconds() - monotonic(), _said("it takes longer than", timeout)))
        if heartbeat is not None:
            left.append((beats.last + heartbeat.total_seconds() - monotonic(), _said("no heartbeat for", heartbeat)))
        least = min(left, default=None)
        if least is not None and least[0] <= 0:
            return f"{definition.name}: {least[1]}"
        done, _ = await asyncio.wait({running}, timeout=None if least is None else least[0])
        if done:
            return ""


async def _give_up(running: asyncio.Future[Any], definition: Executed[Any], over: str, left: Left) -> None:
    """Returns where it came to an end of its own at the last moment."""
    if definition.is_async:
        forget(running)
        running.cancel()
        await asyncio.wait({running}, timeout=_UNWIND_S)
        if running.done() and not running.cancelled():
            return
    left(running)
    raise TimeoutError(over)


def _said(what: str, span: timedelta) -> str:
    return f"{what} {span.total_seconds():g} s"
