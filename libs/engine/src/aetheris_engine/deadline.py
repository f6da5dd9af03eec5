"""A deadline around commands: a recorded moment, which holds while the job is parked and after a crash.

    opened ──► the commands below it ──► closed in time: recorded, and the instant is forgotten
       └─────► the instant comes first: recorded, and the scope below it is cancelled

In the record it is a wait for a timer with a reserved name. No branch blocks on that wait.
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
        # How each deadline ended, by its path: True if the time passed before the code was done. Absent while it is
        # open.
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
        # Inside a cancelled scope the deadline is only replayed: the code under it is answered from the record and
        # cannot run into the deadline again.
        if not execution.scopes.covers(path):
            self._watch(path, until)
        return Settled()

    async def close(self, path: str) -> Settled:
        """End the deadline because the code under it is done. The code and the time may have ended in the same turn of
        the event loop; the deadline that was recorded first counts."""
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
    """The prefix of the paths under a deadline. They are a branch of their own, so that commands that the deadline cut
    off leave no gap in the numbers of the outer branch."""
    return f"{path}.0."
