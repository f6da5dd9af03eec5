"""One wait, from its beginning in the record to its end there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from aetheris import durations
from aetheris_journal import events as e

from aetheris_engine.core.waits import Delivered, Wait
from aetheris_engine.execution import Stage

# How long a job parks while the gateway, whom it has something to ask, is away.
AWAY = timedelta(seconds=5)


async def wait_for(stage: Stage, path: str, kind: e.WaitKind, name: str, span: timedelta | None) -> e.WaitCompleted:
    """Its end, as it stands in the record."""
    return await wait_until(stage, path, kind, name, lambda: moment_after(stage, span))


async def wait_until(
    stage: Stage, path: str, kind: e.WaitKind, name: str, deadline: Callable[[], datetime | None]
) -> e.WaitCompleted:
    """The same, with a deadline that is asked for where the wait begins."""
    record = await stage.recorded(lambda replay: replay.wait(path, kind, name))
    if record is not None and record.completed is not None:
        return record.completed
    if stage.gated:
        await stage.gate()
    if record is None:
        until = deadline()
        stage.scribe.record(e.JobWaiting(path, kind, name, until, at=stage.now()))
    else:
        until = record.deadline
    return await ended(stage, Wait(path, kind, name, until))


async def ended(stage: Stage, wait: Wait) -> e.WaitCompleted:
    """The end of a wait whose beginning is recorded."""
    ending = await stage.wait(wait)
    if isinstance(ending, Delivered):
        note = ending.note
        completed = e.WaitCompleted(wait.path, note.payload, False, note.note_id, note.actor, at=stage.now())
    else:
        completed = e.WaitCompleted(wait.path, timed_out=wait.kind is not e.WaitKind.TIMER, at=stage.now())
    stage.scribe.record(completed, value_bytes=len(completed.payload))
    if completed.source_id:
        stage.consumed(completed.source_id)
    return completed


async def away(stage: Stage, path: str, for_what: str) -> None:
    """The gateway is away, and nothing goes on without it: the job parks, and comes back to ask again."""
    until = stage.now() + AWAY
    await stage.wait(Wait(path, e.WaitKind.RETRY, f"{for_what}: the gateway is away", until))


def moment_after(stage: Stage, span: timedelta | None) -> datetime | None:
    return None if span is None else durations.moment_after(stage.now(), span)
