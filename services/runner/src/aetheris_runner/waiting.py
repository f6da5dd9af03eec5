"""One wait, from its beginning in the record to its end there."""

from __future__ import annotations

from datetime import datetime, timedelta

from aetheris_journal import events as e

from aetheris_runner.core.waits import Delivered, Wait
from aetheris_runner.stage import Stage


async def wait_for(stage: Stage, path: str, kind: e.WaitKind, name: str, span: timedelta | None) -> e.WaitCompleted:
    """Its end, as it stands in the record."""
    record = await stage.recorded(lambda replay: replay.wait(path, kind, name))
    if record is not None and record.completed is not None:
        return record.completed
    if stage.gated:
        await stage.gate()
    if record is None:
        deadline = _deadline(stage, span)
        stage.scribe.record(e.JobWaiting(path, kind, name, deadline, at=stage.now()))
    else:
        deadline = record.deadline
    ending = await stage.wait(Wait(path, kind, name, deadline))
    if isinstance(ending, Delivered):
        note = ending.note
        completed = e.WaitCompleted(path, note.payload, False, note.note_id, note.actor, at=stage.now())
    else:
        completed = e.WaitCompleted(path, timed_out=kind is not e.WaitKind.TIMER, at=stage.now())
    stage.scribe.record(completed, value_bytes=len(completed.payload))
    if completed.source_id:
        stage.consumed(completed.source_id)
    return completed


def _deadline(stage: Stage, span: timedelta | None) -> datetime | None:
    try:
        return None if span is None else stage.now() + span
    except OverflowError:
        raise ValueError("that is longer than the calendar: time ends with the year 9999") from None
