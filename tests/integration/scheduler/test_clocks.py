"""Timers and leases by the clock: prompt, lasting, and not to be fooled by a clock that is set."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aetheris_kernel.clock import SystemClock
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb
from aetheris_scheduler.loops import sweeper
from aetheris_scheduler.store.memory import MemoryStore

from .conftest import PostgresWorld, Served, serving_scheduler, serving_store
from .peer import Stream, parked, released


class SetClock:
    """The machine's clock, which a test sets. Both the process and its store go by it."""

    def __init__(self) -> None:
        self._system = SystemClock()
        self.ahead = timedelta()

    def now(self) -> datetime:
        return self._system.now() + self.ahead

    def monotonic(self) -> float:
        return self._system.monotonic()

    def new_id(self) -> uuid.UUID:
        return self._system.new_id()


async def sleep_until(scheduler: Served, runner: Stream, moment: datetime) -> str:
    job = await scheduler.submit()
    await runner.until(lambda: job.job_id in runner.jobs)
    await runner.say(parked(runner.job(job.job_id), "sleep", wake_time=moment), credits=1)
    await scheduler.until(job.job_id, pb.JOB_STATE_PARKED)
    return job.job_id


@pytest.fixture
def without_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler looks for what is due once, at its start; after that only its own timers let anything happen."""
    monkeypatch.setattr(sweeper, "LOOK_S", 3600.0)
    monkeypatch.setattr(sweeper, "LOOK_WITH_ROOM_S", 3600.0)


@pytest.mark.usefixtures("without_looks")
async def test_a_timer_fires_by_itself_and_not_before_its_moment(scheduler: Served) -> None:
    async with scheduler.peer().stream() as runner:
        for _ in range(5):
            moment = datetime.now(UTC) + timedelta(seconds=0.25)
            job = await sleep_until(scheduler, runner, moment)
            await runner.until(lambda job=job: runner.jobs.count(job) == 2)  # type: ignore[misc]

            assert datetime.now(UTC) >= moment
            await runner.ended(runner.job(job), credits=1)


@pytest.mark.usefixtures("without_looks")
async def test_a_released_job_comes_back_after_its_delay(scheduler: Served) -> None:
    async with scheduler.peer().stream() as runner:
        job = await scheduler.submit()
        await runner.until(lambda: job.job_id in runner.jobs)
        moment = datetime.now(UTC) + timedelta(seconds=0.3)
        await runner.say(released(runner.job(job.job_id), timedelta(seconds=0.3)), credits=1)
        await runner.until(lambda: len(runner.jobs) == 2)

        assert datetime.now(UTC) >= moment


async def test_h7_timers_survive_a_restart_also_those_that_were_missed(
    postgres_world: PostgresWorld, tmp_path: Path
) -> None:
    async with serving_scheduler(postgres_world.dsn, tmp_path) as before, before.peer().stream() as runner:
        soon = await sleep_until(before, runner, datetime.now(UTC) + timedelta(seconds=0.1))
        later = await sleep_until(before, runner, datetime.now(UTC) + timedelta(seconds=1.5))
        never = await sleep_until(before, runner, datetime(9998, 1, 1, tzinfo=UTC))
        await before.stop()
    await postgres_world.sql("SELECT pg_sleep(0.2)")
    async with serving_scheduler(postgres_world.dsn, tmp_path) as after, after.peer().stream() as runner:
        await runner.until(lambda: soon in runner.jobs)
        assert later not in runner.jobs
        await runner.until(lambda: later in runner.jobs)

        assert (await after.job(never)).state == pb.JOB_STATE_PARKED


async def test_a_timer_that_another_scheduler_set_fires_here(postgres_world: PostgresWorld, tmp_path: Path) -> None:
    async with (
        serving_scheduler(postgres_world.dsn, tmp_path) as staying,
        serving_scheduler(postgres_world.dsn, tmp_path) as leaving,
        staying.peer().stream() as runner,
    ):
        job = await leaving.submit(start_after=datetime.now(UTC) + timedelta(seconds=0.8))
        await leaving.stop()

        await runner.until(lambda: job.job_id in runner.jobs)
        assert runner.job(job.job_id).lease == 1


async def test_a_job_beyond_its_deadline_is_cancelled_wherever_it_is(scheduler: Served) -> None:
    async with scheduler.peer().stream() as runner:
        job = await scheduler.submit(deadline=datetime.now(UTC) + timedelta(seconds=0.4))
        await runner.until(lambda: bool(runner.notices))

        assert [notice.kind for notice in runner.notices] == [pb.Notice.KIND_CANCEL]
        found = await scheduler.job(job.job_id)
        assert (found.cancel_requested, found.failure.message) == (True, "deadline")


@pytest.mark.parametrize("minutes", [10, -10])
async def test_x6_a_clock_that_is_set_neither_loses_nor_steals_a_lease(tmp_path: Path, minutes: int) -> None:
    clock = SetClock()
    async with (
        serving_store(MemoryStore(clock), tmp_path, clock, lease_s=0.6) as scheduler,
        scheduler.peer().stream() as runner,
        scheduler.peer().stream(credits=0) as other,
    ):
        job = await scheduler.submit()
        await runner.until(lambda: job.job_id in runner.jobs)
        await other.say(credits=5)
        clock.ahead = timedelta(minutes=minutes)
        await runner.until(lambda: len(runner.renewals) >= 6)
        clock.ahead = timedelta()
        await runner.until(lambda: len(runner.renewals) >= 12)

        assert other.jobs == []
        found = await scheduler.job(job.job_id)
        assert (found.state, found.lease, found.crash_count) == (pb.JOB_STATE_LEASED, 1, 0)


@pytest.mark.parametrize("minutes", [10, -10])
async def test_x6_a_dead_runner_is_noticed_although_the_clock_was_set(tmp_path: Path, minutes: int) -> None:
    clock = SetClock()
    async with (
        serving_store(MemoryStore(clock), tmp_path, clock, lease_s=0.6) as scheduler,
        scheduler.peer().stream(credits=0) as other,
        scheduler.peer().stream(beating_s=None) as silent,
    ):
        jobs = [(await scheduler.submit()).job_id for _ in range(2)]
        await silent.until(lambda: sorted(silent.jobs) == sorted(jobs))
        await other.say(credits=5)
        clock.ahead = timedelta(minutes=minutes)

        await other.until(lambda: sorted(other.jobs) == sorted(jobs))


@pytest.mark.parametrize("minutes", [10, -10])
async def test_x6_a_second_scheduler_takes_nothing_from_the_first_when_the_clock_is_set(
    tmp_path: Path, minutes: int
) -> None:
    clock = SetClock()
    store = MemoryStore(clock)
    async with (
        serving_store(store, tmp_path, clock, lease_s=0.6) as mine,
        serving_store(store, tmp_path, clock, lease_s=0.6) as theirs,
        mine.peer().stream() as runner,
        theirs.peer().stream() as other,
    ):
        job = await mine.submit()
        await runner.until(lambda: job.job_id in runner.jobs)
        # Both have looked at the clock before it is set.
        await other.until(lambda: len(other.renewals) >= 5)
        clock.ahead = timedelta(minutes=minutes)
        await other.until(lambda: len(other.renewals) >= 12)

        assert other.jobs == []
        assert (await mine.job(job.job_id)).crash_count == 0
