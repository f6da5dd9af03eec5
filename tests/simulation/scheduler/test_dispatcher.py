"""The dispatcher, with a store that fails or dies at any of its calls: every job is run, every word is heard, and
no session is leased a job that another one holds."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from aetheris_kernel.clock import Clock, SystemClock
from aetheris_kernel.errors import Unavailable
from aetheris_scheduler.core.job import Job, JobState
from aetheris_scheduler.core.lifecycle import End, Notice, Outcome, Park, Progress, Wake
from aetheris_scheduler.core.session import Hello
from aetheris_scheduler.core.submission import Submission, checked
from aetheris_scheduler.loops.alarm import Alarm
from aetheris_scheduler.loops.dispatcher import Dispatcher
from aetheris_scheduler.loops.leases import Leases
from aetheris_scheduler.loops.waiters import Waiters
from aetheris_scheduler.runners.connection import RunnerConnection, RunnerConnections
from aetheris_scheduler.store.memory import MemoryStore
from aetheris_scheduler.store.tick import JobOutcome, Placement, Submitted, Tick, Ticked

from harness.clock import SimClock
from harness.crash import CrashAt

CLOCK = SystemClock()
WITHIN_S = 15.0
DONE = End(JobState.COMPLETED, b'"done"')


class Lossy:
    """A store whose n-th tick is answered by a lost connection: before it was written, or after."""

    def __init__(self, store: MemoryStore, at: int, *, after: bool) -> None:
        self._store, self._at, self._after = store, at, after
        self.ticks = 0

    async def tick(self, tick: Tick) -> Ticked:
        self.ticks += 1
        if self.ticks == self._at and not self._after:
            raise Unavailable("lost before it was written")
        ticked = await self._store.tick(tick)
        if self.ticks == self._at:
            raise Unavailable("written, and then lost")
        return ticked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Runner:
    """Parks each job once and ends it when it comes again; repeats what was not acknowledged, as runners do."""

    def __init__(self) -> None:
        self.session = CLOCK.new_id()
        self.held: dict[UUID, Job] = {}
        self.unsettled: dict[UUID, JobOutcome] = {}
        self.parked: set[UUID] = set()
        self.given: list[tuple[UUID, int]] = []
        self.lost: list[tuple[UUID, int]] = []

    async def live(self, dispatcher: Dispatcher) -> None:
        """One stream of it."""
        hello = Hello(
            self.session,
            CLOCK.new_id(),
            capacity=2,
            held={job.id: job.lease for job in self.held.values()},
        )
        unsettled = list(self.unsettled.values())
        connection = await dispatcher.open(hello, beat=1, unsettled=[(one.job, one.lease) for one in unsettled])
        try:
            dispatcher.hear(connection, beat=1, more=2 - len(self.held), outcomes=unsettled)
            await self._listen(dispatcher, connection)
        finally:
            dispatcher.close(connection)

    async def _listen(self, dispatcher: Dispatcher, connection: RunnerConnection) -> None:
        while (frame := await connection.outbox.take()) is not None:
            for job, _, _ in frame.settled:
                self.unsettled.pop(job, None)
            for job, lease, notice in frame.notices:
                if notice is Notice.LOST:
                    self.lost.append((job, lease))
            for _, lost in [frame.welcome] if frame.welcome else []:
                for job, _ in lost:
                    self.held.pop(job, None)
            for job in frame.assignments:
                self._take(dispatcher, connection, job)

    def _take(self, dispatcher: Dispatcher, connection: RunnerConnection, job: Job) -> None:
        self.given.append((job.id, job.lease))
        # Held until it is said what became of it, which is at once.
        said: Outcome = DONE if job.id in self.parked else Park("signal")
        self.parked.add(job.id)
        outcome = JobOutcome(self.session, job.id, job.lease, said)
        self.unsettled[job.id] = outcome
        progress = JobOutcome(self.session, job.id, job.lease, Progress())
        dispatcher.hear(connection, beat=0, more=1, outcomes=[progress, outcome])


def scheduler_on(
    store: Any, *, clock: Clock = CLOCK, waiters: Waiters | None = None, lease_s: float = 60, grace_s: float = 60
) -> tuple[Dispatcher, Leases]:
    alarm = Alarm(clock)
    connections = RunnerConnections(clock, lease_s=lease_s)
    leases = Leases(store, connections, alarm, clock, lease_s=lease_s)
    dispatcher = Dispatcher(
        store,
        connections,
        leases,
        alarm,
        waiters or Waiters(store),
        clock,
        lease_s=lease_s,
        grace_s=grace_s,
        crash_limit=8,
    )
    return dispatcher, leases


def dispatcher_on(store: Any) -> Dispatcher:
    return scheduler_on(store)[0]


async def looking(store: Any, dispatcher: Dispatcher) -> None:
    """What the sweeper does, more often."""
    while True:
        sessions = [connection.session.id for connection in dispatcher.connections.open]
        dispatcher.looked(await store.look(sessions, keep=sessions))
        await asyncio.sleep(0.005)


async def again(call: Any) -> Any:
    """What clients do."""
    while True:
        try:
            return await call()
        except Unavailable:
            await asyncio.sleep(0.001)


def submissions() -> list[Submission]:
    return [
        checked(
            Submission(id=CLOCK.new_id(), tenant="acme", agent="a", input=b"{}", idempotency_key=f"k{n}", priority=n)
        )
        for n in range(4)
    ]


async def ask(dispatcher: Dispatcher, wanted: Sequence[Submission], store: MemoryStore) -> None:
    """Submit, and wake parked jobs until all have ended."""
    for submission in wanted:
        (answer,) = await again(lambda submission=submission: dispatcher.submit([submission]))
        assert isinstance(answer, Submitted)
    while not all(job.state.ended for job in store.jobs.values()):
        for job in list(store.jobs.values()):
            if job.state is JobState.PARKED:
                await again(lambda job=job: dispatcher.order(job.id, Wake()))
        await asyncio.sleep(0.001)


async def until_all_ended(
    store: MemoryStore, faulty: Any, runner: Runner, wanted: Sequence[Submission], within_s: float = WITHIN_S
) -> None:
    dispatcher = dispatcher_on(faulty)
    async with asyncio.timeout(within_s), asyncio.TaskGroup() as tasks:
        loops = [
            tasks.create_task(dispatcher.run()),
            tasks.create_task(looking(faulty, dispatcher)),
            tasks.create_task(runner.live(dispatcher)),
        ]
        await ask(dispatcher, wanted, store)
        while runner.unsettled:  # noqa: ASYNC110 - what is waited for is the whole of it settling down
            await asyncio.sleep(0.001)
        for loop in loops:
            loop.cancel()


def check(store: MemoryStore, runner: Runner, wanted: Sequence[Submission]) -> None:
    assert sorted(store.jobs) == sorted(submission.id for submission in wanted)
    assert {(job.state, job.result, job.crash_count) for job in store.jobs.values()} == {
        (JobState.COMPLETED, b'"done"', 0)
    }
    # Nothing was given twice under one lease, and nothing that was its own was taken from it.
    assert len(set(runner.given)) == len(runner.given)
    assert runner.lost == []


@pytest.mark.parametrize(("at", "after"), list(itertools.product(range(1, 16), [False, True])))
async def test_x4_a_tick_whose_answer_is_lost_loses_nothing(at: int, after: bool) -> None:
    store, runner, wanted = MemoryStore(CLOCK), Runner(), submissions()
    await until_all_ended(store, Lossy(store, at, after=after), runner, wanted)

    check(store, runner, wanted)


@pytest.mark.parametrize(("step", "after"), list(itertools.product(range(18), [False, True])))
async def test_x1_a_scheduler_that_dies_anywhere_loses_nothing(step: int, after: bool) -> None:
    store, runner, wanted = MemoryStore(CLOCK), Runner(), submissions()
    with contextlib.suppress(BaseExceptionGroup):
        await until_all_ended(store, CrashAt(store, step, after=after), runner, wanted)
    await until_all_ended(store, store, runner, wanted)

    check(store, runner, wanted)


async def test_nothing_is_lost_where_nothing_fails() -> None:
    store, runner, wanted = MemoryStore(CLOCK), Runner(), submissions()
    lossy = Lossy(store, 0, after=False)
    await until_all_ended(store, lossy, runner, wanted)

    check(store, runner, wanted)
    # So the cases above do hit ticks.
    assert lossy.ticks >= 10


class Held(MemoryStore):
    """A store that answers a tick with claims only when it is let."""

    def __init__(self) -> None:
        super().__init__(CLOCK)
        self.let = asyncio.Event()
        self.written = asyncio.Event()

    async def tick(self, tick: Tick) -> Ticked:
        ticked = await super().tick(tick)
        if ticked.leased:
            self.written.set()
            await self.let.wait()
        return ticked


async def test_a_job_leased_to_a_stream_that_is_gone_is_not_given_to_the_next_one() -> None:
    """The next one was asked what it holds; what it did not know of was given back, and its lease is burnt."""
    store = Held()
    dispatcher = dispatcher_on(store)
    session = CLOCK.new_id()
    (wanted, *_) = submissions()
    await MemoryStore.tick(store, Tick(placements=[Placement(wanted)]))
    async with asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(dispatcher.run())
        before = await dispatcher.open(Hello(session, CLOCK.new_id()), beat=1, unsettled=[])
        dispatcher.hear(before, beat=1, more=1, outcomes=[])
        await store.written.wait()
        after = await dispatcher.open(Hello(session, CLOCK.new_id()), beat=1, unsettled=[])
        store.let.set()
        dispatcher.hear(after, beat=2, more=1, outcomes=[])
        while not after.session.held:  # noqa: ASYNC110 - a tick is what is waited for
            await asyncio.sleep(0.001)
        frame = await after.outbox.take()
        running.cancel()

    assert frame is not None
    assert [(job.id, job.lease) for job in frame.assignments] == [(wanted.id, 3)]


async def test_a_sweep_spares_sessions_that_beat_even_if_the_clock_was_set() -> None:
    clock = SimClock()
    store = MemoryStore(clock)
    dispatcher, _ = scheduler_on(store, clock=clock, lease_s=5, grace_s=1)
    async with asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(dispatcher.run())
        heard = await dispatcher.open(Hello(clock.new_id(), clock.new_id()), beat=1, unsettled=[])
        silent = await dispatcher.open(Hello(clock.new_id(), clock.new_id()), beat=1, unsettled=[])
        clock.advance(4)
        dispatcher.hear(heard, beat=2, more=0, outcomes=[])
        clock.advance(2)
        clock.set_wall(clock.now() + timedelta(minutes=10))
        await dispatcher.sweep(timers=True, deadlines=True, sessions=True)
        running.cancel()

    assert not heard.ended.is_set()
    assert silent.ended.is_set()


async def test_a_waiting_caller_hears_of_a_jobs_end_from_the_tick() -> None:
    store = MemoryStore(CLOCK)
    waiters = Waiters(store)
    dispatcher, _ = scheduler_on(store, waiters=waiters)
    (wanted, *_) = submissions()
    async with asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(dispatcher.run())
        connection = await dispatcher.open(Hello(CLOCK.new_id(), CLOCK.new_id()), beat=1, unsettled=[])
        dispatcher.hear(connection, beat=1, more=1, outcomes=[])
        await dispatcher.submit([wanted])
        async with waiters.waiting(wanted.id) as ended:
            dispatcher.hear(
                connection, beat=0, more=0, outcomes=[JobOutcome(connection.session.id, wanted.id, 1, DONE)]
            )
            await ended.wait()
        running.cancel()

    assert store.jobs[wanted.id].state is JobState.COMPLETED


@pytest.mark.parametrize("draining", [False, True])
async def test_a_lease_is_shortened_for_a_lost_stream_but_not_for_one_that_a_drain_ends(draining: bool) -> None:
    store = MemoryStore(CLOCK)
    dispatcher, leases = scheduler_on(store)
    connection = await dispatcher.open(Hello(CLOCK.new_id(), CLOCK.new_id()), beat=1, unsettled=[])
    if draining:
        dispatcher.drain()
    dispatcher.close(connection)
    await leases.shorten()

    # The session holds no job, so it is over as soon as its lease is shortened.
    assert len(await store.runners(None, 10)) == (1 if draining else 0)
    assert len(dispatcher.connections) == 0


async def test_a_scheduler_that_drains_opens_no_session() -> None:
    dispatcher = dispatcher_on(MemoryStore(CLOCK))
    dispatcher.drain()
    with pytest.raises(Unavailable) as refused:
        await dispatcher.open(Hello(CLOCK.new_id(), CLOCK.new_id()), beat=1, unsettled=[])

    assert refused.value.reason == "DRAINING"
