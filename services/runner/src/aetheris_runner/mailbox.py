"""Calls that one thread leaves for the event loop of another, in batches.

    post ─► queue ─► the loop is told once ─► it makes all the calls that are there

Waking a loop from another thread costs a system call, so it is done once for all that is posted before the loop looks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog

log = structlog.get_logger()

# A loop that is blocked gets no more than this. It is far more than all jobs of a runner have under way.
POSTS_MAX = 100_000


class Mailbox:
    """Any thread may post. The calls are made in the order of their posting, by the thread of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, posts_max: int = POSTS_MAX) -> None:
        self._loop, self._posts_max = loop, posts_max
        self._posts: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._told = False
        self._closed = False

    @property
    def full(self) -> bool:
        return len(self._posts) >= self._posts_max

    def post(self, call: Callable[..., object], *args: Any) -> None:
        """Have `call` called. It is dropped if the mailbox is full or closed."""
        if self._closed or self.full:
            return
        self._posts.append((call, args))
        # Read after the append. If `_open` has cleared it in between, the loop is told once too often, which does no
        # harm; it is never told too rarely.
        if not self._told:
            self._told = True
            # The loop is closed: its thread has ended.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._open)

    def close(self) -> None:
        """Make none of the calls that are there, and take no more. Called by the thread of the loop."""
        self._closed = True
        self._posts.clear()

    def _open(self) -> None:
        self._told = False
        for _ in range(len(self._posts)):
            if self._closed:
                return
            call, args = self._posts.popleft()
            try:
                call(*args)
            except Exception:
                # One call must not keep the others from being made.
                log.exception("posted call failed", call=getattr(call, "__qualname__", repr(call)))
