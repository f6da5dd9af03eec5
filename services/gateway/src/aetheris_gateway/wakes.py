"""Wakes: tell the scheduler that a job has new inbox entries, and remember that it was told.

An entry is durable before its job is woken, so a crash between the two leaves an entry of which the scheduler was never
told; the sweep finds it. A wake is a hint and may be repeated: the job reads its entries from the inbox.
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
    """Wakes one job, and marks the entries of which the scheduler then knows."""

    def __init__(self, scheduler: Scheduler, store: InboxStore) -> None:
        self._scheduler = scheduler
        self._woken: BatchWriter[Sequence[UUID], None] = BatchWriter(
            self._write_woken, name="woken", rows_max=1_000, queue_max=10_000
        )
        self._store = store

    async def run(self) -> None:
        await self._woken.run()

    async def wake(self, job_id: UUID, entries: Sequence[UUID], *, by: str) -> None:
        """Wake the job. Raises Unavailable while the scheduler is away: then nothing has changed."""
        try:
            state = await self._scheduler.wake(str(job_id))
        except NotFound:
            # The entry was accepted while the scheduler was away, for a job that does not exist.
            WAKES.labels(by, "unknown").inc()
            await self._settle_unread(job_id, entries)
            return
        except Refusal:
            WAKES.labels(by, "failed").inc()
            raise
        if state in FINISHED:
            # The job ended after the gateway had looked at it and before the entry was durable. No runner will read it.
            WAKES.labels(by, "finished").inc()
            await self._settle_unread(job_id, entries)
            return
        WAKES.labels(by, "woken").inc()
        # If the mark fails, the sweep wakes the job once more.
        with suppress(Exhausted, Unavailable):
            self._woken.submit_nowait(entries).add_done_callback(_ignore)

    async def _settle_unread(self, job_id: UUID, entries: Sequence[UUID]) -> None:
        log.info("notes without a reader settled", job_id=str(job_id), notes=len(entries))
        await self._store.settle([(job_id, entry) for entry in entries])

    async def _write_woken(self, batch: Sequence[Sequence[UUID]]) -> Sequence[None]:
        await self._store.mark_woken([entry for entries in batch for entry in entries])
        return [None] * len(batch)


class WakeQueue:
    """Wakes jobs soon, while the sender of an entry already has its answer. All entries that come for a job during its
    wake share the next one."""

    def __init__(self, job_waker: JobWaker) -> None:
        self._job_waker = job_waker
        self._entries: dict[UUID, list[UUID]] = {}
        self._jobs: asyncio.Queue[UUID] = asyncio.Queue()
        self._calling: set[UUID] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def wake(self, job_id: UUID, entry_id: UUID) -> None:
        """Never waits and never fails: entries beyond the queue's limit are left to the sweep."""
        waiting = self._entries.get(job_id)
        if waiting is not None:
            waiting.append(entry_id)
        elif len(self._entries) < _JOBS_MAX:
            self._entries[job_id] = [entry_id]
            self._idle.clear()
            if job_id not in self._calling:
                self._jobs.put_nowait(job_id)

    async def idle(self, within_s: float) -> None:
        """Return once no job waits to be woken, or the time is over."""
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            log.info("left to the sweep", jobs=len(self._entries) + len(self._calling))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(_CALLS_AT_ONCE):
                tasks.create_task(self._work(), name=f"wake-queue-{number}")

    async def _work(self) -> None:
        while True:
            job_id = await self._jobs.get()
            self._calling.add(job_id)
            try:
                await self._job_waker.wake(job_id, self._entries.pop(job_id), by="waker")
            except Refusal as refusal:
                log.info("job not woken", job_id=str(job_id), reason=refusal.reason)
            except Exception:
                log.exception("job not woken", job_id=str(job_id))
            finally:
                self._calling.discard(job_id)
            if job_id in self._entries:
                # More entries came during the call.
                self._jobs.put_nowait(job_id)
            elif not self._entries and not self._calling:
                self._idle.set()


def _ignore(answer: asyncio.Future[None]) -> None:
    """A mark that failed costs one more wake; the batch writer has counted the failure."""
    if not answer.cancelled():
        # Read the exception, so that asyncio does not report it as never retrieved.
        answer.exception()
