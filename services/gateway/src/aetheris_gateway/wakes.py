"""Telling the scheduler that something came for a job, and remembering that it was told.

A note is durable before its job is woken, so a crash between the two leaves a note that nobody was told
about; the sweep finds it. Waking is a hint that may be repeated: the truth is in the inbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

import structlog
from aetheris_chassis.batch import BatchWriter
from aetheris_kernel.errors import Exhausted, NotFound, Refusal, Unavailable

from aetheris_gateway.metrics import WAKES
from aetheris_gateway.peers import Scheduler
from aetheris_gateway.states import FINISHED
from aetheris_gateway.store.inbox import InboxStore

log = structlog.get_logger()

_CALLS_AT_ONCE = 32
_JOBS_MAX = 10_000


class JobWaker:
    """One wake and what it says about the notes it was for."""

    def __init__(self, scheduler: Scheduler, store: InboxStore) -> None:
        self._scheduler = scheduler
        self._woken: BatchWriter[Sequence[UUID], None] = BatchWriter(
            self._write_woken, name="woken", rows_max=1_000, queue_max=10_000
        )
        self._store = store

    async def run(self) -> None:
        await self._woken.run()

    async def wake(self, job_id: UUID, notes: Sequence[UUID], *, by: str) -> None:
        """Wake the job. Raises Unavailable where the scheduler is away: then nothing has changed."""
        try:
            state = await self._scheduler.wake(str(job_id))
        except NotFound:
            # Accepted while the scheduler was away, for a job that never was.
            WAKES.labels(by, "unknown").inc()
            await self._forget(job_id, notes)
            return
        except Refusal:
            WAKES.labels(by, "failed").inc()
            raise
        if state in FINISHED:
            # It ended between the look at it and the note; nobody will ask for the note any more.
            WAKES.labels(by, "finished").inc()
            await self._forget(job_id, notes)
            return
        WAKES.labels(by, "woken").inc()
        # Where this fails it is not remembered, and the sweep wakes once more.
        with suppress(Exhausted, Unavailable):
            self._woken.submit_nowait(notes).add_done_callback(_ignore)

    async def _forget(self, job_id: UUID, notes: Sequence[UUID]) -> None:
        log.info("notes without a reader settled", job_id=str(job_id), notes=len(notes))
        await self._store.settle([(job_id, note) for note in notes])

    async def _write_woken(self, batch: Sequence[Sequence[UUID]]) -> Sequence[None]:
        await self._store.mark_woken([note for notes in batch for note in notes])
        return [None] * len(batch)


class WakeQueue:
    """Wakes jobs soon, without making whoever spoke to them wait. All that came for a job while its last
    wake was under way is one more wake."""

    def __init__(self, job_waker: JobWaker) -> None:
        self._job_waker = job_waker
        self._notes: dict[UUID, list[UUID]] = {}
        self._jobs: asyncio.Queue[UUID] = asyncio.Queue()
        self._calling: set[UUID] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def wake(self, job_id: UUID, note_id: UUID) -> None:
        """Never waits and never fails: what is not woken here is left to the sweep."""
        waiting = self._notes.get(job_id)
        if waiting is not None:
            waiting.append(note_id)
        elif len(self._notes) < _JOBS_MAX:
            self._notes[job_id] = [note_id]
            self._idle.clear()
            if job_id not in self._calling:
                self._jobs.put_nowait(job_id)

    async def idle(self, within_s: float) -> None:
        """Until nothing waits to be woken, or the time is over."""
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            log.info("left to the sweep", jobs=len(self._notes) + len(self._calling))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(_CALLS_AT_ONCE):
                tasks.create_task(self._work(), name=f"waker-{number}")

    async def _work(self) -> None:
        while True:
            job_id = await self._jobs.get()
            self._calling.add(job_id)
            try:
                await self._job_waker.wake(job_id, self._notes.pop(job_id), by="waker")
            except Refusal as refusal:
                log.info("job not woken", job_id=str(job_id), reason=refusal.reason)
            except Exception:
                log.exception("job not woken", job_id=str(job_id))
            finally:
                self._calling.discard(job_id)
            if job_id in self._notes:
                self._jobs.put_nowait(job_id)
            elif not self._notes and not self._calling:
                self._idle.set()


def _ignore(answer: asyncio.Future[None]) -> None:
    """A mark that failed costs one more wake; the writer has counted it."""
    if not answer.cancelled():
        answer.exception()
