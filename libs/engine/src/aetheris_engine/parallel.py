"""Branches side by side: each is a task with commands of its own.

Branches begin in their order, so the begun branches are always the first ones. A block may be told to begin no more (a
map with too many failures). Branches that an earlier run began, as the record shows, begin again all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from aetheris_engine.execution import Execution

Start = Callable[[int], Coroutine[Any, Any, None]]


class Block:
    """One parallel block in one run. Without `more`, every branch begins."""

    def __init__(
        self,
        execution: Execution,
        path: str,
        numbers: Sequence[int],
        start: Start,
        *,
        limit: int | None,
        more: Callable[[], bool] | None,
        ended: Callable[[int], None] | None,
    ) -> None:
        self._execution, self._path, self._numbers, self._start = execution, path, numbers, start
        self._limit = len(numbers) if limit is None else limit
        self._more, self._told = more, ended
        # The branches that an earlier run began, up to the last one that has a command in the record.
        self._at_least = execution.replay.unused.branches_begun(path) if more is not None else len(numbers)
        self._next = self._running = 0
        # A branch was cancelled from outside: the block begins no more branches.
        self._stopped: BaseException | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        if not self._numbers:
            return
        self._begin()
        if self._running:
            try:
                await self._until_over()
            finally:
                if self._execution.scopes.cancelled:
                    for number in self._numbers:
                        self._execution.scopes.close(f"{self._path}.{number}.")
        if self._stopped is not None:
            raise self._stopped

    async def _until_over(self) -> None:
        activity = self._execution.activity
        try:
            await activity.blocked(self._over)
        except asyncio.CancelledError:
            # What cancelled the block has cancelled its branches, too. Wait until they have ended.
            if self._running:
                self._over = asyncio.get_running_loop().create_future()
                await activity.blocked(self._over)
            raise

    def _begin(self) -> None:
        """Begin branches up to the limit. If no more are wanted, begin only those that an earlier run had begun."""
        while self._running < self._limit and self._next < len(self._numbers) and self._stopped is None:
            if self._next >= self._at_least and not self._wanted():
                return
            if self._execution.life.program_shut:
                return
            number = self._numbers[self._next]
            self._next += 1
            self._running += 1
            branch = self._execution.spawn(self._start(number))
            branch.add_done_callback(partial(self._ended, number))

    def _wanted(self) -> bool:
        # A tool that a cancel kept from being entered counts as failed and makes room, but a job that is ending begins
        # no new branch.
        return self._more is None or (self._more() and self._execution.cancelling is None)

    def _ended(self, number: int, branch: asyncio.Task[None]) -> None:
        if branch.cancelled():
            self._stopped = self._stopped or asyncio.CancelledError()
        elif (error := branch.exception()) is not None:
            self._stopped = self._stopped or error
        if self._told is not None:
            self._told(number)
        self._running -= 1
        self._begin()
        if self._running == 0:
            self._execution.activity.release(self._over)
        self._execution.activity.leave()
