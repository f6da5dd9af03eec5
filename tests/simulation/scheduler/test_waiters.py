"""Callers that wait for a job's end get it from this process's own ticks, and from one poll for all others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from aetheris_kernel.clock import SystemClock
from aetheris_kernel.errors import Unavailable
from aetheris_scheduler.loops import waiters as module
from aetheris_scheduler.loops.waiters import Waiters
from aetheris_scheduler.store.memory import MemoryStore

CLOCK = SystemClock()


class Asked(MemoryStore):
    """Remembers what it was asked, says that all have ended from the second question on, and fails at the first."""

    def __init__(self) -> None:
        super().__init__(CLOCK)
        self.questions: list[list[UUID]] = []

    async def ended(self, jobs: Sequence[UUID]) -> set[UUID]:
        self.questions.append(list(jobs))
        if len(self.questions) == 1:
            raise Unavailable("the database is away")
        return set(jobs)


async def test_a_tick_of_this_process_tells_everybody_who_waits_at_once() -> None:
    waiters, job = Waiters(MemoryStore(CLOCK)), CLOCK.new_id()
    async with waiters.waiting(job) as one, waiters.waiting(job) as two, waiters.waiting(CLOCK.new_id()) as other:
        waiters.ended(job)

        assert one.is_set()
        assert two.is_set()
        assert not other.is_set()


async def test_all_waiting_callers_share_one_query(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.01)
    store = Asked()
    waiters, jobs = Waiters(store), [CLOCK.new_id() for _ in range(50)]

    async def wait(job: UUID) -> None:
        async with waiters.waiting(job) as ended:
            await ended.wait()

    polling = asyncio.ensure_future(waiters.run())
    async with asyncio.timeout(15):
        await asyncio.gather(*(wait(job) for job in jobs))
    questions = len(store.questions)
    # No caller waits any more, so no query is made.
    for _ in range(10):
        await asyncio.sleep(0.01)
    polling.cancel()
    await asyncio.gather(polling, return_exceptions=True)

    assert questions == 2
    assert sorted(store.questions[0]) == sorted(jobs)
    assert len(store.questions) == questions


async def test_waiting_callers_are_released_when_the_process_stops() -> None:
    waiters: Any = Waiters(MemoryStore(CLOCK))
    async with waiters.waiting(CLOCK.new_id()) as one:
        waiters.release()

        assert one.is_set()
