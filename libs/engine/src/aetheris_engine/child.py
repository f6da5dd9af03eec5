"""Jobs that a job starts: asked for once, heard of when they end, and closed with their parent.

    child_started durable ──► submitted (again after every takeover: one job) ──► the agent goes on
    await ──► by name: ended already? ──► since then: the scheduler wakes the parent, which reads on
                                                       └──► child_completed, wait_completed

The scheduler numbers the ends of a job's children, and `family` reads on: a thousand children cost a thousand
questions and not a million.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any
from uuid import UUID

import structlog
from aetheris.children import Child, Spawn, read_end
from aetheris_journal import events as e
from aetheris_journal.replay import ChildRecord
from aetheris_kernel.errors import JobFinished, Refusal, Unavailable

from aetheris_engine.core.waits import Wait
from aetheris_engine.execution import Stage
from aetheris_engine.wait import AWAY

log = structlog.get_logger()

_PARENT_CLOSED = "its parent has ended"


async def spawn(stage: Stage, path: str, asked: Spawn) -> Child:
    record = await stage.recorded(
        lambda replay: replay.child(path, asked.agent, asked.input, asked.queue, asked.on_parent_close)
    )
    if record is None:
        if stage.gated:
            await stage.gate()
        job_id = str(_named(stage.job_id, asked.key) if asked.key else stage.hands.clock.new_id())
        started = e.ChildStarted(
            path, job_id, asked.agent, asked.input, asked.on_parent_close, asked.queue, at=stage.now()
        )
        ticket = stage.scribe.record(started, value_bytes=len(asked.input))
        record = stage.replay.child_started(started)
        await stage.scribe.durable(ticket)
    if record.job_id in stage.replay.children and record.job_id not in stage.family.submitted:
        if stage.gated:
            await stage.gate()
        await _submit(stage, path, record)
    return Child(record.job_id, asked.result)


async def result(stage: Stage, path: str, child: Child) -> Any:
    """The child's end, as it stands in the record. Whoever waits a second time gets the same."""
    name, kind = child.job_id, e.WaitKind.CHILD
    record = await stage.recorded(lambda replay: replay.wait(path, kind, name))
    if record is None or record.completed is None:
        if stage.gated:
            await stage.gate()
        if record is None:
            stage.scribe.record(e.JobWaiting(path, kind, name, at=stage.now()))
        if name not in stage.replay.child_ends:
            await stage.wait(Wait(path, kind, name, None))
        stage.scribe.record(e.WaitCompleted(path, at=stage.now()))
    return read_end(child, stage.replay.child_ends[name])


async def close_all(stage: Stage) -> None:
    """The job ends: its children are told to, unless they are to be left alone. Whoever ends the job once more
    tells them once more."""
    for record in tuple(stage.replay.children.values()):
        if record.parent_close != "abandon":
            await _close(stage, record)


async def _close(stage: Stage, record: ChildRecord) -> None:
    path = f"close {record.job_id}"
    if record.job_id not in stage.family.submitted:
        # A former holder may be about to submit it still, and then nobody would be left to cancel it.
        await _submit(stage, path, record)
        if record.job_id in stage.replay.child_ends:
            return
    while True:
        try:
            await stage.hands.children.cancel(stage.assignment, record.job_id, _PARENT_CLOSED)
            return
        except JobFinished:
            return
        except Unavailable:
            await _away(stage, path)
        except Refusal as refusal:
            log.warning("child not cancelled", child_job_id=record.job_id, problem=refusal.message)
            return


async def _submit(stage: Stage, path: str, record: ChildRecord) -> None:
    while True:
        try:
            await stage.hands.children.submit(stage.assignment, record)
        except Unavailable:
            await _away(stage, path)
            continue
        except Refusal as refusal:
            # What is refused is refused whenever it is asked: that is how this child ended.
            stage.family.ended(path, record.job_id, b"", e.Failure(type(refusal).__name__, refusal.message))
        stage.family.submitted.add(record.job_id)
        return


async def _away(stage: Stage, path: str) -> None:
    await stage.wait(Wait(path, e.WaitKind.RETRY, "child: the scheduler is away", stage.now() + AWAY))


def _named(parent: UUID, key: str) -> UUID:
    """The child of that name: the parent's moment, and the rest from the two. A UUIDv7 like any other."""
    digest = int.from_bytes(sha256(parent.bytes + key.encode()).digest()[:10], "big")
    rest = digest & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62
    return UUID(int=parent.int >> 80 << 80 | rest)
