"""A world: a store with the means to put it into any state, and to let time pass in it."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import grpc
import pytest
from aetheris_chassis.client import open_channel
from aetheris_chassis.postgres import Pool, acquiring, open_pool
from aetheris_kernel.clock import Clock
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb
from aetheris_proto.scheduler.v1 import scheduler_pb2_grpc as api
from aetheris_scheduler.app import serve, serve_on
from aetheris_scheduler.core.claim import AloneClaim, Claim, Slot
from aetheris_scheduler.core.job import Job
from aetheris_scheduler.core.session import Hello, Skills
from aetheris_scheduler.core.submission import Submission, checked
from aetheris_scheduler.settings import Settings
from aetheris_scheduler.store import rows
from aetheris_scheduler.store.contract import Store
from aetheris_scheduler.store.memory import MemoryStore
from aetheris_scheduler.store.postgres import PostgresStore
from aetheris_scheduler.store.tick import (
    JobOrder,
    JobOutcome,
    Leased,
    OrderAnswer,
    Placement,
    Submitted,
    Suspects,
    Sweep,
    Tick,
    Ticked,
)

from harness.clock import SimClock
from harness.postgres import Server, fresh_database

from .peer import Peer, submission

COLUMNS = [field.name for field in dataclasses.fields(Job) if field.name != "runner_id"]
T = TypeVar("T")
TIMES = ("since", "created_at", "started_at", "wake_at", "start_after", "deadline", "end_asked_at")


class World:
    store: Store

    def __init__(self) -> None:
        self.clock = SimClock()

    def submission(self, **fields: Any) -> Submission:
        defaults: dict[str, Any] = {"tenant": "acme", "agent": "greeter", "input": b'{"args": []}'}
        return checked(Submission(**{"id": self.clock.new_id(), **defaults, **fields}))

    async def submit(self, **fields: Any) -> Job:
        (answer,) = (await self.store.tick(Tick(placements=[Placement(self.submission(**fields))]))).submitted
        assert isinstance(answer, Submitted), answer
        return answer.job

    async def runner(
        self, *, agents: Sequence[str] = ("*",), capacity: int = 100, lease_s: float = 60.0, **more: Any
    ) -> Hello:
        hello = Hello(uuid4(), uuid4(), agents=tuple(agents), capacity=capacity, **more)
        await self.store.open(hello, lease_s=lease_s)
        return hello

    async def claim(self, runner: Hello, jobs: int = 1, skills: Skills | None = None) -> list[Leased]:
        slots = [self.slot(runner)] * jobs
        return (await self.store.tick(Tick(claims=[Claim(skills or runner.skills, slots, always=True)]))).leased

    def slot(self, runner: Hello) -> Slot:
        return Slot(runner.session, runner.stream, runner.runner_id, runner.versions)

    async def claim_alone(self, runner: Hello) -> UUID | None:
        return (await self.store.tick(Tick(alone=AloneClaim(runner.skills, self.slot(runner))))).alone

    async def leased(self, runner: Hello, **fields: Any) -> Job:
        """A new job, held by this runner."""
        submitted = await self.submit(**fields)
        (leased,) = await self.claim(runner)
        assert leased.job.id == submitted.id
        return leased.job

    async def suspect(self, runner: Hello, jobs: frozenset[UUID]) -> None:
        await self.store.tick(Tick(suspects=[Suspects(runner.session, jobs)]))

    async def says(self, runner: Hello, job: Job, said: Any) -> bool:
        return (await self.store.tick(Tick(outcomes=[JobOutcome(runner.session, job.id, job.lease, said)]))).settled[0]

    async def order(self, job: Job | UUID, steer: Any) -> OrderAnswer:
        job_id = job.id if isinstance(job, Job) else job
        return (await self.store.tick(Tick(orders=[JobOrder(job_id, steer)]))).ordered[0]

    async def sweep(self, **more: Any) -> Ticked:
        return await self.store.tick(Tick(sweep=Sweep(timers=True, deadlines=True, sessions=True, **more)))

    async def job(self, job: Job | UUID) -> Job:
        job_id = job.id if isinstance(job, Job) else job
        return (await self.store.get([job_id]))[job_id]

    async def put(self, jobs: Sequence[Job]) -> None:
        raise NotImplementedError

    async def clear(self) -> None:
        raise NotImplementedError

    async def pass_time(self, seconds: float) -> None:
        raise NotImplementedError


class MemoryWorld(World):
    def __init__(self) -> None:
        super().__init__()
        self.memory = MemoryStore(self.clock)
        self.store = self.memory

    async def put(self, jobs: Sequence[Job]) -> None:
        self.memory.jobs.update({job.id: job for job in jobs})

    async def clear(self) -> None:
        self.memory = self.store = MemoryStore(self.clock)

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)


class PostgresWorld(World):
    def __init__(self, pool: Pool, dsn: str = "") -> None:
        super().__init__()
        self.pool, self.dsn = pool, dsn
        self.store = PostgresStore(pool)

    async def sql(self, statement: str, *arguments: Any) -> Any:
        async with acquiring(self.pool) as connection:
            return await connection.fetch(statement, *arguments)

    async def put(self, jobs: Sequence[Job]) -> None:
        records = [tuple(_column(job, name) for name in COLUMNS) for job in jobs]
        async with acquiring(self.pool) as connection:
            await connection.copy_records_to_table("jobs", schema_name="scheduler", columns=COLUMNS, records=records)

    async def clear(self) -> None:
        await self.sql("TRUNCATE scheduler.jobs, scheduler.runners, scheduler.child_ends")

    async def pass_time(self, seconds: float) -> None:
        """Time cannot be held in a database, but everything in it can be made older."""
        age = timedelta(seconds=seconds)
        moved = ", ".join(f"{name} = {name} - $1::interval" for name in TIMES)
        await self.sql(f"UPDATE scheduler.jobs SET {moved}", age)
        await self.sql("UPDATE scheduler.runners SET lease_deadline = lease_deadline - $1::interval", age)
        self.clock.advance(seconds)


def _column(job: Job, name: str) -> Any:
    if name == "digest":
        return job.digest or bytes(32)
    if name == "fork":
        return rows.from_fork(job.fork)
    if name == "fork":
        return rows.from_fork(job.fork)
    return rows.from_failure(job.failure) if name == "failure" else getattr(job, name)


@pytest.fixture
async def postgres_world(postgres_server: Server) -> AsyncIterator[PostgresWorld]:
    async with (
        fresh_database(postgres_server, "aetheris_scheduler") as dsn,
        open_pool(dsn, size_max=8) as pool,
    ):
        yield PostgresWorld(pool, dsn)


@pytest.fixture(params=["memory", "postgres"])
def world(request: pytest.FixtureRequest) -> World:
    """The same promises for both."""
    if request.param == "memory":
        return MemoryWorld()
    found: World = request.getfixturevalue("postgres_world")
    return found


def flags(*names: str) -> Iterator[dict[str, bool]]:
    """Every combination."""
    for values in itertools.product((False, True), repeat=len(names)):
        yield dict(zip(names, values, strict=True))


def comparable(job: Job, before: Job) -> dict[str, Any]:
    """All of a job but the moments that a store's own clock decides; of those, whether they were moved."""
    seen = {field.name: getattr(job, field.name) for field in dataclasses.fields(job)}
    for name in ("created_at", "digest", "runner_id"):
        del seen[name]
    seen["since"] = job.since != before.since
    seen["started_at"] = job.started_at is not None
    seen["progress_at"] = job.progress_at is not None
    seen["end_asked_at"] = job.end_asked_at == before.end_asked_at
    seen["start_after"] = job.start_after == before.start_after
    seen["wake_at"] = "as before" if job.wake_at == before.wake_at else job.wake_at is not None
    return seen


async def eventually(found: Callable[[], Awaitable[T | None]], within_s: float = 15.0) -> T:
    """What is found, as soon as it is."""
    async with asyncio.timeout(within_s):
        while (value := await found()) is None:  # noqa: ASYNC110 - what is waited for is in another process's hands
            await asyncio.sleep(0.005)
    return value


class Served:
    """A scheduler that serves, in this process, and a client of it."""

    def __init__(self, channel: grpc.aio.Channel, settings: Settings, stop: Callable[[], Awaitable[None]]) -> None:
        self.channel = channel
        self.api = api.SchedulerStub(channel)
        self.settings = settings
        self.stop = stop

    def peer(self, **fields: Any) -> Peer:
        return Peer(self.channel, **fields)

    async def submit(self, **fields: Any) -> pb.Job:
        return (await self.api.Submit(submission(**fields))).job

    async def job(self, job_id: str) -> pb.Job:
        return (await self.api.Get(pb.GetRequest(job_id=job_id))).job

    async def until(self, job_id: str, state: Any, within_s: float = 15.0) -> pb.Job:
        async def as_wanted() -> pb.Job | None:
            job = await self.job(job_id)
            return job if job.state == state else None

        return await eventually(as_wanted, within_s)


def serving_scheduler(dsn: str, folder: Path, **fields: Any) -> AbstractAsyncContextManager[Served]:
    """Another scheduler on this database."""
    settings = _settings(folder, database_url=dsn, **fields)
    return _serving(settings, lambda started: serve(settings, started=started))


def serving_store(store: Store, folder: Path, clock: Clock, **fields: Any) -> AbstractAsyncContextManager[Served]:
    """A scheduler on any store, by a clock that the test holds."""
    settings = _settings(folder, **fields)
    return _serving(settings, lambda started: serve_on(store, settings, clock, started=started))


def _settings(folder: Path, **fields: Any) -> Settings:
    defaults: dict[str, Any] = {"lease_s": 1.0, "grace_s": 0.2, "drain_s": 5.0}
    return Settings(listen=f"unix:{folder}/{uuid4().hex[:8]}.sock", **{**defaults, **fields})


@asynccontextmanager
async def _serving(
    settings: Settings, run: Callable[[asyncio.Event], Coroutine[Any, Any, None]]
) -> AsyncIterator[Served]:
    started = asyncio.Event()
    task = asyncio.ensure_future(run(started))

    async def stop() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    waiting = asyncio.ensure_future(started.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        await task
    try:
        async with open_channel(settings.listen) as channel:
            yield Served(channel, settings, stop)
    finally:
        await stop()


@pytest.fixture
async def scheduler(postgres_world: PostgresWorld, tmp_path: Path) -> AsyncIterator[Served]:
    async with serving_scheduler(postgres_world.dsn, tmp_path) as served:
        yield served
