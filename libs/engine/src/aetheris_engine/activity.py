"""Knows when a job has nothing left to do but wait.

A job's branches are tasks. Each is either able to move or blocked on a durable wait; steps, tools and
records on their way count as moving. When none can move the job is quiet, and quiet jobs park. The
count changes before a blocked branch is handed its value, so it is never low by mistake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Activity:
    def __init__(self, on_quiet: Callable[[], None]) -> None:
        self._moving = 0
        self._on_quiet = on_quiet

    @property
    def quiet(self) -> bool:
        return self._moving == 0

    def enter(self) -> None:
        self._moving += 1

    def leave(self) -> None:
        self._moving -= 1
        if self._moving == 0:
            self._on_quiet()

    async def blocked(self, future: asyncio.Future[Any]) -> Any:
        """Await a future that only `release` resolves."""
        if not future.done():
            self.leave()
        else:
            # `release` came before this branch could block: it counted the branch in again, although the branch had
            # never been counted out.
            self._moving -= 1
        try:
            return await future
        except asyncio.CancelledError:
            # The cancelled branch moves again, so it is counted in. If `release` came at the same moment, it is counted
            # in already.
            if future.cancelled():
                self._moving += 1
            raise

    def release(self, future: asyncio.Future[Any], value: Any = None) -> None:
        if not future.done():
            self._moving += 1
            future.set_result(value)
