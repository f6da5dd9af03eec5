"""The sweep: wakes jobs with inbox entries of which the scheduler was never told.

A gateway leaves such entries if it dies between accepting and waking, or accepts while the scheduler is away. Each pass
walks all of them once, oldest first, in pages; a job that cannot be woken does not hold up the entries behind it. While
the scheduler is away, the passes become rarer.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from uuid import UUID

import structlog
from aetheris_kernel.errors import Refusal, Unavailable

from aetheris_gateway.store.inbox import InboxStore
from aetheris_gateway.wakes import JobWaker

log = structlog.get_logger()

PAGE_ROWS = 500
CALLS_AT_ONCE = 8
PAUSE_MAX_S = 5.0


@dataclass(slots=True)
class _Tally:
    woken: int = 0
    failures: int = 0
    away: Unavailable | None = None

    @property
    def scheduler_away(self) -> bool:
        """Whether the scheduler seems to be away. One wake may fail because of its job; if several fail and none works,
        the scheduler does not answer."""
        return self.failures >= CALLS_AT_ONCE and self.woken == 0


class InboxSweep:
    def __init__(self, store: InboxStore, job_waker: JobWaker, *, every_s: float, after_s: float) -> None:
        self._store = store
        self._job_waker = job_waker
        self._every_s = every_s
        self._after_s = after_s

    async def run(self) -> None:
        pause_s = self._every_s
        while True:
            await asyncio.sleep(pause_s)
            try:
                woken = await self.sweep()
            except Unavailable as refusal:
                pause_s = min(2 * pause_s, max(PAUSE_MAX_S, self._every_s))
                log.warning("sweep stopped", reason=refusal.message, again_in_s=pause_s)
            except Exception:
                pause_s = min(2 * pause_s, max(PAUSE_MAX_S, self._every_s))
                log.exception("sweep stopped", again_in_s=pause_s)
            else:
                pause_s = self._every_s
                if woken:
                    log.info("sweep woke jobs", jobs=woken)

    async def sweep(self) -> int:
        """One pass over all such entries; how many jobs it woke. Raises Unavailable if some could not be woken."""
        tally = _Tally()
        after = 0
        while not tally.scheduler_away and (page := await self._store.unwoken(after, self._after_s, PAGE_ROWS)):
            jobs: defaultdict[UUID, list[UUID]] = defaultdict(list)
            for entry in page:
                jobs[entry.job_id].append(entry.entry_id)
            async with asyncio.TaskGroup() as tasks:
                room = asyncio.Semaphore(CALLS_AT_ONCE)
                for job_id, entries in jobs.items():
                    tasks.create_task(self._wake(job_id, entries, room, tally))
            after = page[-1].position
        if tally.away is not None:
            raise tally.away
        return tally.woken

    async def _wake(self, job_id: UUID, entries: list[UUID], room: asyncio.Semaphore, tally: _Tally) -> None:
        async with room:
            if tally.scheduler_away:
                return
            try:
                await self._job_waker.wake(job_id, entries, by="sweep")
                tally.woken += 1
            except Unavailable as refusal:
                tally.away = refusal
                tally.failures += 1
            except Refusal as refusal:
                log.warning("job not woken", job_id=str(job_id), reason=refusal.reason)
