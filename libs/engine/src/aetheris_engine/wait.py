"""One wait, from its beginning in the record to its end there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from aetheris_journal import events as e
from aetheris_journal.commands import Settled

from aetheris_engine.core.waits import Delivered, Wait
from aetheris_engine.execution import Execution

# How long a job parks before it asks the gateway or the scheduler again, if that was away.
AWAY = timedelta(seconds=5)


async def wait_for(
    execution: Execution, path: str, kind: e.WaitKind, name: str, deadline: Callable[[], datetime | None]
) -> Settled:
    """Wait for an inbox entry or for a moment. `deadline` is called when the wait begins, and its answer is
    recorded."""
    record = await execution.recorded(lambda replay: replay.wait(path, kind, name))
    if record is not None and record.completed is not None:
        return settled(record.completed)
    if execution.gated:
        await execution.gate(path)
    if record is None:
        until = deadline()
        execution.record(e.JobWaiting(path, kind, name, until, at=execution.now()))
    else:
        until = record.deadline
    return settled(await ended(execution, Wait(path, kind, name, until)))


async def ended(execution: Execution, wait: Wait) -> e.WaitCompleted:
    """The end of a wait whose beginning is recorded."""
    ending = await execution.wait(wait)
    if isinstance(ending, Delivered):
        entry = ending.entry
        completed = e.WaitCompleted(wait.path, entry.payload, False, entry.entry_id, entry.actor, at=execution.now())
    else:
        completed = e.WaitCompleted(wait.path, timed_out=wait.kind is not e.WaitKind.TIMER, at=execution.now())
    execution.record(completed)
    if completed.source_id:
        execution.consumed(completed.source_id, message=wait.kind is e.WaitKind.MESSAGE)
    return completed


def settled(completed: e.WaitCompleted) -> Settled:
    return Settled(completed.payload, timed_out=completed.timed_out)


async def away(execution: Execution, path: str, for_what: str) -> None:
    """Park the job for a while, because the command needs the gateway and the gateway is away."""
    until = execution.now() + AWAY
    await execution.wait(Wait(path, e.WaitKind.RETRY, f"{for_what}: the gateway is away", until))


def deadline_after(execution: Execution, span: timedelta | None) -> datetime | None:
    return None if span is None else execution.now() + span
