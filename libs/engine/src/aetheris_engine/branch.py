"""Branches that run beside the code that started them, until they end or that code cancels them.

A cancel is recorded at the path of the command that asks for it. A run that takes the job over cancels the branch's
scope before the branch runs again: the branch may come to its frontier before the command that cancels it is replayed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any

from aetheris_journal import events as e
from aetheris_journal.commands import BRANCH, CANCEL, AwaitBranch, CancelBranch, Settled
from aetheris_journal.path import block_of

from aetheris_engine.execution import Execution


class StartedBranches:
    """The branches that one run has started."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._running: dict[str, asyncio.Task[None]] = {}
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        # Errors of the engine that ended a branch, by the branch's prefix. An error of the author's code is the
        # branch's result, and the program keeps it.
        self._faults: dict[str, BaseException] = {}
        for prefix in execution.replay.cancelled_branches:
            execution.scopes.cancel(prefix)

    def start(self, prefix: str, branch: Coroutine[Any, Any, None], ended: Callable[[], None]) -> None:
        if self._execution.life.program_shut:
            branch.close()
            ended()
            return
        self._execution.replay.unused.start_beside(block_of(prefix))
        task = self._running[prefix] = self._execution.spawn(branch)
        task.add_done_callback(partial(self._ended, prefix, ended))

    async def ended(self, prefix: str) -> None:
        """Wait until every branch under `prefix` has ended."""
        try:
            await self._until_ended(prefix)
        except asyncio.CancelledError:
            # The end of the run has cancelled the caller, and the branches too. Wait until they have ended.
            await self._until_ended(prefix)
            raise
        self._execution.scopes.close(prefix)
        self._execution.replay.unused.end_beside(prefix)
        for failed, fault in self._faults.items():
            if failed.startswith(prefix):
                raise fault

    async def wait_for(self, path: str, command: AwaitBranch) -> Settled:
        """Wait for a branch, and record that this command has seen its end: a deadline around the command may pass
        before or after that, and every later run has to see the same."""
        execution = self._execution
        record = await execution.recorded(lambda replay: replay.step(path, BRANCH, command.arguments))
        if record is None and self._under(command.prefix):
            if execution.scopes.cancelled:
                await execution.scopes.refuse(path)
            with execution.scopes.standing(path):
                await self._until_ended(command.prefix)
        await self.ended(command.prefix)
        if record is None:
            await self._record(path, BRANCH, command.arguments)
        return Settled()

    async def cancel(self, path: str, command: CancelBranch) -> Settled:
        record = await self._execution.recorded(lambda replay: replay.step(path, CANCEL, command.arguments))
        if record is None:
            await self._record(path, CANCEL, command.arguments)
            if self._under(command.prefix):
                self._execution.scopes.cancel(command.prefix)
        return Settled()

    async def _record(self, path: str, name: str, arguments: bytes) -> None:
        execution = self._execution
        if execution.gated:
            await execution.gate(path)
        execution.record(e.StepCommitted(path, name, arguments, b"null", 1, timedelta(0), at=execution.now()))

    async def _until_ended(self, prefix: str) -> None:
        if self._under(prefix):
            over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((prefix, over))
            await self._execution.activity.blocked(over)

    def _under(self, prefix: str) -> bool:
        """Whether a branch under `prefix` runs."""
        return any(running.startswith(prefix) for running in self._running)

    def _ended(self, prefix: str, told: Callable[[], None], task: asyncio.Task[None]) -> None:
        told()
        del self._running[prefix]
        self._execution.scopes.close(prefix)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._faults[prefix] = fault
        waiting, self._waiting = self._waiting, []
        for awaited, over in waiting:
            if self._under(awaited):
                self._waiting.append((awaited, over))
            else:
                self._execution.activity.release(over)
        self._execution.activity.leave()
