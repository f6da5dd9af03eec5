"""A deadline around commands: a recorded instant, which holds while the job is parked and across crashes.

    opened ──► the commands below it ──► closed in time: recorded, and the instant is forgotten
       └─────► the instant comes first: recorded, and the scope below it is cancelled

The record has it as a wait for time whose name is reserved. No branch blocks on that wait.
"""

from __future__ import annotations

from datetime import datetime

from aetheris_journal import events as e
from aetheris_journal.commands import DEADLINE, OpenDeadline, Settled

from aetheris_engine.core.waits import Wait
from aetheris_engine.execution import Execution
from aetheris_engine.wait import deadline_after

_TIMER = e.WaitKind.TIMER


class Deadlines:
    """The deadlines of one run."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        # How each deadline ended, by its path: True where its time was over first. Absent while it is open.
        self._expired: dict[str, bool] = {}

    async def open(self, path: str, command: OpenDeadline) -> Settled:
        execution = self._execution
        record = await execution.recorded(lambda replay: replay.wait(path, _TIMER, DEADLINE))
        if record is not None and record.completed is not None:
            self._expired[path] = record.completed.timed_out
            if record.completed.timed_out:
                execution.scopes.cancel(_scope(path))
            return Settled(timed_out=record.completed.timed_out)
        if record is None:
            if execution.gated:
                await execution.gate(path)
            until = deadline_after(execution, command.span)
            execution.record(e.JobWaiting(path, _TIMER, DEADLINE, until, at=execution.now()))
        else:
            until = record.deadline
        # In a cancelled scope it was opened before, and the code below it comes as far as it came then.
        if not execution.scopes.covers(path):
            self._watch(path, until)
        return Settled()

    async def close(self, path: str) -> Settled:
        """The code under the deadline is over. It may have ended in the very turn in which its time did."""
        execution = self._execution
        execution.scopes.unwatch(path)
        execution.waits.withdraw(path)
        execution.scopes.close(_scope(path))
        if path not in self._expired:
            if execution.gated:
                await execution.gate(path)
            self._end(path, expired=False)
        return Settled(timed_out=self._expired[path])

    def forget(self) -> None:
        """The program begins again from a checkpoint, and so do its paths."""
        self._expired.clear()

    def _watch(self, path: str, until: datetime | None) -> None:
        execution = self._execution

        def expired() -> None:
            self._end(path, expired=True)
            execution.scopes.cancel(_scope(path))

        execution.scopes.watch(path, expired)
        execution.waits.open(Wait(path, _TIMER, DEADLINE, until))
        execution.nudged.set()

    def _end(self, path: str, *, expired: bool) -> None:
        self._expired[path] = expired
        self._execution.record(e.WaitCompleted(path, timed_out=expired, at=self._execution.now()))


def _scope(path: str) -> str:
    """The commands under a deadline are numbered in a branch of their own, so that those it cuts off leave no gap."""
    return f"{path}.0."
