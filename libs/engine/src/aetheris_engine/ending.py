"""How a job ends: its last words, and what the scheduler is told once they are durable."""

from __future__ import annotations

from aetheris_journal import events as e

from aetheris_engine import child as children
from aetheris_engine import compensation, ports
from aetheris_engine.execution import Stage
from aetheris_engine.ports import Outcome


async def complete(stage: Stage, result: bytes) -> Outcome:
    """The agent has returned. The last step and this are one commit, unless there are children to tell."""
    await children.close_all(stage)
    stage.scribe.record(e.JobCompleted(result, at=stage.now()), value_bytes=len(result))
    return ports.Completed(result)


async def fail(stage: Stage, failure: e.Failure) -> Outcome:
    """The agent has raised: what it did is taken back, and then the job ends."""
    await _undo(stage)
    stage.scribe.record(e.JobFailed(failure, at=stage.now()))
    return ports.Failed(failure)


async def cancel(stage: Stage) -> Outcome:
    """Somebody wants it to end, and all its branches have come to rest."""
    await stage.stilled()
    await _undo(stage)
    reason = stage.cancelling or ""
    stage.scribe.record(e.JobCancelled(reason, at=stage.now()))
    return ports.Cancelled(reason)


async def _undo(stage: Stage) -> None:
    stage.unwind()
    await children.close_all(stage)
    await compensation.undo_all(stage)
