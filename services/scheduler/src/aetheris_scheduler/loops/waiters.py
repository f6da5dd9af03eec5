"""Callers that wait for a job to end.

This process's own ticks release them at once. Jobs that other schedulers end are found by one slow poll, which all
waiting callers share.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from uuid import UUID

import structlog
from aetheris_kernel.errors import Unavailable

from aetheris_scheduler.store.contract import Store

log = structlog.get_logger()

POLL_S = 0.25
_JOBS_MAX = 5_000


class Waiters:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[UUID, set[asyncio.Event]] = {}
        self._one_waits = asyncio.Event()

    @asynccontextmanager
    async def waiting(self, job: UUID) -> AsyncIterator[asyncio.Event]:
        """An event that is set once the job has ended. The caller reads the job inside, so that no end is missed."""
        event = asyncio.Event()
        self._waiting.setdefault(job, set()).add(event)
        self._one_waits.set()
        try:
            yield event
        finally:
            events = self._waiting.get(job)
            if events is not None:
                events.discard(event)
                if not events:
                    del self._waiting[job]

    def ended(self, *jobs: UUID) -> None:
        for job in jobs:
            for event in self._waiting.get(job, ()):
                event.set()

    def release(self) -> None:
        """Release all waiting callers: this process is about to stop."""
        self.ended(*self._waiting)

    async def run(self) -> None:
        while True:
            await self._one_waits.wait()
            await asyncio.sleep(POLL_S)
            if not self._waiting:
                self._one_waits.clear()
                continue
            try:
                self.ended(*await self._poll())
            except Unavailable as away:
                log.warning("cannot look for ended jobs", problem=away.message)
            except Exception:
                log.exception("cannot look for ended jobs")

    async def _poll(self) -> Collection[UUID]:
        jobs = list(self._waiting)
        found: set[UUID] = set()
        for first in range(0, len(jobs), _JOBS_MAX):
            found |= set(await self._store.ended(jobs[first : first + _JOBS_MAX]))
        return found
