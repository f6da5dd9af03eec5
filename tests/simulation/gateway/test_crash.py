"""A gateway crashes before and after each call it makes while it takes a signal, in turn.

At each point: a sender without an answer sends again, another gateway sweeps, and the job has the signal exactly once
and was woken for it. A sender with an answer need not send again.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import product
from uuid import UUID

import pytest
from aetheris_chassis.postgres import open_pool
from aetheris_gateway.core import intake
from aetheris_gateway.core.requests import NewSignal
from aetheris_gateway.identity import Caller
from aetheris_gateway.service import InboxService, JobService
from aetheris_gateway.store.inbox import InboxStore
from aetheris_gateway.sweep import InboxSweep
from aetheris_gateway.wakes import JobWaker, WakeQueue
from aetheris_kernel.clock import SystemClock
from aetheris_kernel.errors import NotFound
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb

from harness.crash import Crash, CrashAt, Fuse

pytestmark = pytest.mark.migrated("aetheris_gateway")

CALLER = Caller("default", "ada")
CLOCK = SystemClock()


class Away:
    """A scheduler's client that knows one job; `wakes` counts what reached it."""

    def __init__(self, job_id: str) -> None:
        self.job = scheduler_pb.Job(job_id=job_id, tenant="default", state=scheduler_pb.JOB_STATE_PARKED)
        self.wakes = 0

    async def glance(self, job_id: str) -> scheduler_pb.Job:
        if job_id != self.job.job_id:
            raise NotFound("no such job")
        return self.job

    async def wake(self, job_id: str) -> int:
        self.wakes += 1
        return self.job.state


class Gateway:
    """The parts that take a signal, and the one that sweeps."""

    def __init__(self, store, scheduler) -> None:
        self.job_waker = JobWaker(scheduler, store)
        self.wake_queue = WakeQueue(self.job_waker)
        self.inbox = InboxService(store, JobService(scheduler, CLOCK, asyncio.Event()), self.wake_queue, CLOCK)
        self.sweep = InboxSweep(store, self.job_waker, every_s=3600, after_s=0)

    @asynccontextmanager
    async def alive(self):
        tasks = [asyncio.create_task(part.run()) for part in (self.inbox, self.job_waker, self.wake_queue)]
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for task in tasks:
                if not task.cancelled():
                    task.exception()


def approved(job_id: str) -> NewSignal:
    return NewSignal(job_id=UUID(job_id), correlation_key="approved", payload=intake.raw_content(b"1", "payload"))


async def until(condition) -> None:
    async with asyncio.timeout(15):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.001)


# The look at the job, the entry, the wake, the mark.
CALLS = 4


@pytest.mark.parametrize(("step", "after"), list(product(range(CALLS), [False, True])))
async def test_a_crash_anywhere_loses_nothing_and_doubles_nothing(database, step, after):
    job_id = str(CLOCK.new_id())
    world = Away(job_id)
    fuse = Fuse(step, after=after)
    async with open_pool(database) as pool:
        store = InboxStore(pool)
        answered = False
        first = Gateway(CrashAt(store, fuse=fuse), CrashAt(world, fuse=fuse))
        try:
            async with first.alive() as tasks:
                sending = asyncio.ensure_future(first.inbox.signal(CALLER, approved(job_id)))
                await asyncio.wait({sending, *tasks}, return_when=asyncio.FIRST_COMPLETED)
                answered = sending.done() and sending.exception() is None
                if answered:  # the rest happens behind the sender's back
                    await until(lambda: fuse.burnt)
                sending.cancel()
                await asyncio.wait({sending})
        except (Crash, BaseExceptionGroup):
            pass
        assert fuse.burnt, "every point was reached"

        second = Gateway(store, world)
        async with second.alive():
            if not answered:
                await second.inbox.signal(CALLER, approved(job_id))
                await second.wake_queue.idle(5)
            await second.sweep.sweep()
            await until(lambda: nothing_unwoken(store))
            again = await second.inbox.signal(CALLER, approved(job_id))
        notes, _ = await store.fetch(UUID(job_id), None, 10)

    assert [(note.name, note.payload) for note in notes] == [("approved", b"1")]
    assert again.created is False
    assert world.wakes >= 1


async def nothing_unwoken(store: InboxStore) -> bool:
    return not await store.unwoken(0, 0, 10)


async def test_the_calls_are_those_that_are_crashed(database):
    job_id = str(CLOCK.new_id())
    fuse = Fuse(-1)
    world = Away(job_id)
    async with open_pool(database) as pool:
        gateway = Gateway(CrashAt(InboxStore(pool), fuse=fuse), CrashAt(world, fuse=fuse))
        async with gateway.alive():
            await gateway.inbox.signal(CALLER, approved(job_id))
            await until(lambda: nothing_unwoken(InboxStore(pool)))

        assert fuse.calls == CALLS
