"""Jobs that a job starts: submitted once, their ends read from the scheduler, and closed with their parent.

    child_started durable ──► submitted (again after every takeover: one job) ──► the program goes on
    await ──► by name: ended already? ──► since then: the scheduler wakes the parent, which reads on
                                                       └──► child_completed, wait_completed

The scheduler numbers the ends of a job's children. A wait asks about its child once by name. Every child that ends
later has a higher number than the one in that answer, so all later ends are read with one request. A thousand children
cost a thousand requests and not a million.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from hashlib import sha256
from uuid import UUID

import structlog
from aetheris_journal import events as e
from aetheris_journal.commands import CANCEL, AwaitChild, CancelChild, Settled, StartChild
from aetheris_journal.replay import ChildRecord
from aetheris_kernel.errors import JobFinished, Refusal
from aetheris_kernel.ids import bucket_of, in_bucket

from aetheris_engine.core.waits import Wait
from aetheris_engine.execution import Execution
from aetheris_engine.ports import UNANSWERED
from aetheris_engine.wait import AWAY

log = structlog.get_logger()

ASKED_MAX = 1_000
# The pause before a scheduler that was away is asked again. The job does not park meanwhile, because it could miss a
# child's end.
_AGAIN_S = 0.5

_PARENT_CLOSED, _PARENT_CANCELS = "its parent has ended", "its parent cancelled it"


class StartedChildren:
    def __init__(self, execution: Execution) -> None:
        # The children that this run has submitted, or found submitted.
        self.submitted = {record.job_id for record in execution.replay.children.values() if record.submitted}
        self._execution = execution
        self._up_to_date = False
        self._under_way = False
        # The scheduler has told all ends up to this number.
        self._after: int | None = None
        # The awaited children that had not ended when the scheduler was asked about them by name.
        self._asked: set[str] = set()

    def wake(self) -> None:
        """A child may have ended."""
        self._up_to_date = False

    def soon(self) -> None:
        """Ask the scheduler for ended children, if any wait needs it. The job does not park until the answer is
        here."""
        if self._under_way or not self._wanted():
            return
        self._under_way = True
        self._execution.spawn_listener(self._read())

    def ended(self, path: str, job_id: str, result: bytes, failure: e.Failure | None) -> None:
        """Record how a child ended."""
        completed = e.ChildCompleted(path, job_id, result, failure, at=self._execution.now())
        self._execution.record(completed)
        self._execution.replay.child_completed(completed)

    def _wanted(self) -> bool:
        awaited = self._execution.waits.children
        return bool(awaited) and (not self._up_to_date or not awaited <= self._asked)

    async def _read(self) -> None:
        try:
            while self._wanted():
                try:
                    await self._ask()
                except UNANSWERED as away:
                    log.warning("scheduler away", job_id=str(self._execution.job_id), problem=away.message)
                    self._up_to_date = False
                    await asyncio.sleep(_AGAIN_S)
        except Refusal as refusal:
            self._execution.stop(refusal)
        finally:
            self._under_way = False

    async def _ask(self) -> None:
        execution, more = self._execution, True
        self._up_to_date = True
        while more:
            fresh = sorted(execution.waits.children - self._asked)[:ASKED_MAX]
            page = await execution.services.children.ended(execution.assignment, self._after, fresh)
            for job_id in page.job_ids:
                await self._tell(job_id)
            self._asked.update(set(fresh).difference(page.job_ids))
            self._asked.difference_update(page.job_ids)
            self._after, more = page.next, page.more

    async def _tell(self, job_id: str) -> None:
        """Wake the waits for this child. If none is open yet, a later wait asks the scheduler itself."""
        execution = self._execution
        if not execution.waits.for_child(job_id):
            return
        if job_id not in execution.replay.child_ends:
            outcome = await execution.services.children.outcome(execution.assignment, job_id)
            waiting = execution.waits.for_child(job_id)
            if not waiting:
                # No wait for a child is left: the program may be over, and then nothing more can be recorded.
                return
            self.ended(waiting[0].path, job_id, outcome.result, outcome.failure)
        execution.end(execution.waits.child_ended(job_id))


async def start(execution: Execution, children: StartedChildren, path: str, command: StartChild) -> Settled:
    record = await execution.recorded(
        lambda replay: replay.child(path, command.agent, command.input, command.queue, command.parent_close)
    )
    if record is None:
        if execution.gated:
            await execution.gate(path)
        new_id = _new_id(execution, command.key)
        started = e.ChildStarted(
            path, str(new_id), command.agent, command.input, command.parent_close, command.queue, at=execution.now()
        )
        ticket = execution.record(started)
        record = execution.replay.child_started(started)
        await execution.writer.durable(ticket)
    # In a cancelled scope the program is answered only from the record. The child may not be submitted yet; `cancel`
    # does that, so that there is a job to cancel.
    unsubmitted = record.job_id in execution.replay.children and record.job_id not in children.submitted
    if unsubmitted and not execution.scopes.covers(path):
        if execution.gated:
            await execution.gate(path)
        await _submit(execution, children, path, record)
    return Settled(record.job_id.encode())


async def result(execution: Execution, path: str, command: AwaitChild) -> Settled:
    """The child's end, from the record. Every wait for the same child gets the same answer."""
    name, kind = command.job_id, e.WaitKind.CHILD
    record = await execution.recorded(lambda replay: replay.wait(path, kind, name))
    recorded = record is not None and record.completed is not None
    if not recorded:
        if execution.gated:
            await execution.gate(path)
        if record is None:
            execution.record(e.JobWaiting(path, kind, name, at=execution.now()))
        if name not in execution.replay.child_ends:
            await execution.wait(Wait(path, kind, name, None))
        execution.record(e.WaitCompleted(path, at=execution.now()))
    ended = execution.replay.child_ends[name]
    return Settled(ended.result, ended.failure, recorded=recorded)


async def cancel(execution: Execution, children: StartedChildren, path: str, command: CancelChild) -> Settled:
    """Ask the scheduler to cancel a child, then record that it was asked."""
    record = await execution.recorded(lambda replay: replay.step(path, CANCEL, command.arguments))
    if record is not None:
        return Settled(record.result)
    if execution.gated:
        await execution.gate(path)
    started = execution.replay.children.get(command.job_id)
    if started is not None:
        await _close(execution, children, started, _PARENT_CANCELS)
    execution.record(e.StepCommitted(path, CANCEL, command.arguments, b"null", 1, timedelta(0), at=execution.now()))
    return Settled(b"null")


async def submit_all(execution: Execution, children: StartedChildren, path: str) -> None:
    """Submit the open children that may not be submitted yet, so that a checkpoint need not carry their inputs."""
    for record in tuple(execution.replay.children.values()):
        if record.job_id not in children.submitted:
            await _submit(execution, children, path, record)


async def close_all(execution: Execution, children: StartedChildren) -> None:
    """Cancel the children of a job that ends, except those with `on_parent_close="abandon"`. A run that ends the job
    again after a crash cancels them again."""
    for record in tuple(execution.replay.children.values()):
        if record.parent_close != "abandon":
            await _close(execution, children, record, _PARENT_CLOSED)


async def _close(execution: Execution, children: StartedChildren, record: ChildRecord, reason: str) -> None:
    path = f"close {record.job_id}"
    if record.job_id not in children.submitted:
        # Submit before the cancel: a former holder may still be about to submit this child, and a cancel that came
        # first would miss it.
        await _submit(execution, children, path, record)
        if record.job_id in execution.replay.child_ends:
            return
    while True:
        try:
            await execution.services.children.cancel(execution.assignment, record.job_id, reason)
            return
        except JobFinished:
            return
        except UNANSWERED:
            await _away(execution, path)
        except Refusal as refusal:
            log.warning("child not cancelled", child_job_id=record.job_id, problem=refusal.message)
            return


async def _submit(execution: Execution, children: StartedChildren, path: str, record: ChildRecord) -> None:
    while True:
        try:
            await execution.services.children.submit(execution.assignment, record)
        except UNANSWERED:
            await _away(execution, path)
            continue
        except Refusal as refusal:
            # The scheduler would refuse the same submission every time, so the refusal is recorded as the child's end.
            children.ended(path, record.job_id, b"", e.Failure(type(refusal).__name__, refusal.message))
        children.submitted.add(record.job_id)
        return


async def _away(execution: Execution, path: str) -> None:
    await execution.wait(Wait(path, e.WaitKind.RETRY, "child: the scheduler is away", execution.now() + AWAY))


def _new_id(execution: Execution, key: str) -> UUID:
    """The id of a new child, in the parent's bucket. A parent of an earlier version derives the ids of children with
    keys as it did, also for a key that it has used before a checkpoint."""
    parent = execution.job_id
    if not key:
        return in_bucket(execution.services.clock.new_id(), bucket_of(parent))
    named = _named(parent, key)
    return in_bucket(named, bucket_of(parent)) if execution.replay.buckets else named


def _named(parent: UUID, key: str) -> UUID:
    """The job id of the child with that key: a valid UUIDv7 with the parent's timestamp; the other bits are a hash of
    parent and key."""
    digest = int.from_bytes(sha256(parent.bytes + key.encode()).digest()[:10], "big")
    rest = digest & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62
    return UUID(int=parent.int >> 80 << 80 | rest)
