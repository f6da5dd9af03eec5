"""The jobs that a runner holds: one lease at a time, kept warm while that is true, nothing after a lease is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from uuid import UUID

import pytest
from aetheris import agent, signal, step, tool
from aetheris.driving.program import PythonProgram
from aetheris_engine import ports
from aetheris_engine.job import Run
from aetheris_journal import events as e
from aetheris_journal.append import Answer, AppendOutcome
from aetheris_runner.held_jobs import HeldJobs, Offered
from aetheris_runner.hosts.python import PythonHosts
from prometheus_client import REGISTRY

from harness.crash import Fuse
from harness.world import MemoryJournal, World

JOB = UUID("018f0000-0000-7000-8000-000000000001")


@dataclass
class FakeSession:
    """The scheduler's end: takes outcomes and says whether they took effect."""

    said: list[tuple[UUID, int, ports.Outcome]] = field(default_factory=list)
    effective: bool = True
    freed: int = 0
    progress: list[tuple[UUID, int]] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    def outcome(self, job_id: UUID, lease: int, outcome: ports.Outcome) -> asyncio.Future[bool]:
        self.said.append((job_id, lease, outcome))
        self.heard.set()
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        answer.set_result(self.effective)
        return answer

    def progressed(self, job_id: UUID, lease: int, fraction: float | None, note: str) -> None:
        self.progress.append((job_id, lease))

    async def cancel_reason(self, job_id: UUID) -> str:
        return "too dear"

    def free(self) -> None:
        self.freed += 1

    async def next(self) -> ports.Outcome:
        async with asyncio.timeout(15):
            await self.heard.wait()
        self.heard.clear()
        return self.said[-1][2]


class Bench:
    """The held jobs of a runner between a memory world and a fake session, with counters that its agents move."""

    def __init__(self) -> None:
        self.world = World()
        self.session = FakeSession()
        self.ran: list[str] = []
        self.inside = asyncio.Event()
        self.go = asyncio.Event()
        self.stopped = asyncio.Event()
        _, journal, services = self.world.process(Fuse(-1))
        self.services = services
        self.journal: MemoryJournal = journal
        hosts = PythonHosts()
        self.agents = {
            definition.name: Offered(PythonProgram(definition), hosts, "v1") for definition in self._agents()
        }
        self.jobs = HeldJobs(self.agents, services, self.session, warm_max=2)

    def assign(self, name: str, lease: int, job: UUID = JOB, crash_count: int = 0, note: str = "") -> None:
        now = self.world.clock.now()
        given = json.dumps({"args": [note] if note else []}).encode()
        self.jobs.assign(ports.Assignment(job, "default", name, "default", given, lease, now, crash_count=crash_count))

    def _agents(self):  # type: ignore[no-untyped-def]
        bench = self

        @step
        async def note(what: str) -> None:
            bench.ran.append(what)

        @step
        async def long() -> None:
            bench.inside.set()
            try:
                await bench.go.wait()
            except asyncio.CancelledError:
                bench.stopped.set()
                raise

        @tool
        async def act(*, idempotency_key: str) -> str:
            return str(await bench.world.outside.do(idempotency_key, "done"))

        @agent("waits")
        async def waits(about: str = "") -> object:
            bench.ran.append("drive")
            await note("before")
            return await signal("go")

        @agent("works")
        async def works() -> str:
            await long()
            return await act()

        return waits, works


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.jobs.close()


async def test_the_next_lease_goes_on_where_the_agent_stood(bench: Bench):
    bench.assign("waits", 1)
    await bench.session.next()
    bench.world.signals = {"go": b"1"}
    bench.world.pass_time(JOB, ports.Parked("signal: go"))
    bench.assign("waits", 2)

    assert await bench.session.next() == ports.Completed(b"1")
    assert bench.ran == ["drive", "before"]


async def test_a_lease_that_another_held_in_between_starts_from_the_chain(bench: Bench):
    bench.assign("waits", 1)
    await bench.session.next()
    bench.world.signals = {"go": b"1"}
    bench.world.pass_time(JOB, ports.Parked("signal: go"))
    bench.assign("waits", 3)

    assert await bench.session.next() == ports.Completed(b"1")
    assert bench.ran == ["drive", "before", "drive"]


async def test_a_park_that_came_too_late_is_forgotten(bench: Bench):
    bench.session.effective = False
    bench.assign("waits", 1)
    await bench.session.next()
    await asyncio.sleep(0)
    bench.session.effective = True
    bench.assign("waits", 2)
    await bench.session.next()

    assert bench.ran == ["drive", "before", "drive"]


async def test_only_so_many_jobs_stay_warm(bench: Bench):
    for number in range(3):
        bench.assign("waits", 1, UUID(int=JOB.int + number))
        await bench.session.next()
    for number in range(3):
        bench.assign("waits", 2, UUID(int=JOB.int + number))
        await bench.session.next()

    assert bench.ran.count("drive") >= 4


async def test_a_lost_lease_stops_the_step_and_says_nothing(bench: Bench):
    """J6"""
    bench.assign("works", 1)
    await bench.inside.wait()
    bench.jobs.notice(JOB, 1, ports.Notice.LOST)
    async with asyncio.timeout(15):
        await bench.stopped.wait()
    bench.go.set()

    assert bench.jobs.held == []
    assert bench.session.said == []
    assert bench.session.freed == 1
    assert not bench.world.outside.calls


async def test_d6_a_job_that_is_to_be_terminated_is_handed_back_and_then_ended_without_its_code(bench: Bench):
    bench.assign("works", 1)
    await bench.inside.wait()
    bench.jobs.notice(JOB, 1, ports.Notice.TERMINATE)

    assert await bench.session.next() == ports.Released("to be terminated")
    assert bench.jobs.held == []
    now = bench.world.clock.now()
    bench.jobs.assign(
        ports.Assignment(
            JOB,
            "default",
            "works",
            "default",
            b"{}",
            2,
            now,
            cancel_requested=True,
            cancel_reason="hangs",
            terminate=True,
        )
    )
    assert await bench.session.next() == ports.Cancelled("hangs")
    assert not bench.world.outside.calls


async def test_a10_a_cancelled_job_of_an_agent_that_is_not_here_is_ended(bench: Bench):
    now = bench.world.clock.now()
    unknown = ports.Assignment(JOB, "default", "misspelt", "default", b"{}", 1, now)
    bench.jobs.assign(unknown)
    released = await bench.session.next()
    assert isinstance(released, ports.Released)
    bench.jobs.assign(replace(unknown, lease=2, cancel_requested=True, cancel_reason="a typing error"))

    assert await bench.session.next() == ports.Cancelled("a typing error")


async def test_losing_the_session_stops_everything(bench: Bench):
    bench.assign("works", 1)
    await bench.inside.wait()
    bench.jobs.lose_all()
    async with asyncio.timeout(15):
        await bench.stopped.wait()

    assert bench.jobs.held == []
    assert bench.session.said == []


async def test_news_of_another_lease_is_not_for_this_one(bench: Bench):
    bench.assign("works", 2)
    await bench.inside.wait()
    bench.jobs.notice(JOB, 1, ports.Notice.LOST)
    bench.jobs.notice(JOB, 1, ports.Notice.CANCEL)
    bench.go.set()

    assert await bench.session.next() == ports.Completed(b'"done"')


async def test_a_cancelled_job_says_why_in_its_record(bench: Bench):
    bench.assign("works", 1)
    await bench.inside.wait()
    bench.jobs.notice(JOB, 1, ports.Notice.CANCEL)

    assert await bench.session.next() == ports.Cancelled("too dear")
    assert bench.world.events(JOB)[-1] == e.JobCancelled("too dear", at=bench.world.clock.now())


async def test_a_paused_job_comes_back_at_its_next_command(bench: Bench):
    bench.assign("works", 1)
    await bench.inside.wait()
    bench.jobs.notice(JOB, 1, ports.Notice.PAUSE)
    bench.go.set()

    assert await bench.session.next() == ports.Released("paused")
    assert not bench.world.outside.calls


async def test_a_stopping_runner_gives_back_what_comes_to_rest_and_what_does_not(bench: Bench):
    """J3"""
    bench.assign("works", 1)
    await bench.inside.wait()
    await bench.jobs.drained(0.05)

    assert await bench.session.next() == ports.Released("the runner stops")
    assert bench.stopped.is_set()
    assert bench.jobs.held == []


async def test_a_job_that_runners_died_over_says_once_that_it_goes_on(bench: Bench):
    """J8"""
    bench.assign("waits", 1)
    await bench.session.next()
    quiet = list(bench.session.progress)
    bench.world.signals = {"go": b"1"}
    bench.world.pass_time(JOB, ports.Parked("signal: go"))
    bench.assign("waits", 3, crash_count=1)
    await bench.session.next()

    assert quiet == []
    assert bench.session.progress == [(JOB, 3)]


async def test_a_job_of_an_unknown_agent_goes_back_with_a_delay(bench: Bench):
    bench.assign("nobody", 1)
    outcome = await bench.session.next()

    assert isinstance(outcome, ports.Released)
    assert outcome.delay.total_seconds() > 0
    assert "nobody" in outcome.reason


async def test_a_refusal_of_the_ledger_that_no_retry_mends_parks_the_job_for_an_operator(bench: Bench):
    def refused(append: object) -> asyncio.Future[Answer]:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        answer.set_result(Answer(AppendOutcome.REFUSED, message="a body has 1 byte"))
        return answer

    bench.journal.append = refused  # type: ignore[method-assign]
    bench.assign("waits", 1)
    outcome = await bench.session.next()

    assert isinstance(outcome, ports.Parked)
    assert outcome.operator
    assert "a body has 1 byte" in outcome.reason


async def test_a_broken_chain_parks_the_job_for_an_operator(bench: Bench):
    bench.assign("waits", 1)
    await bench.session.next()
    chain = bench.world.store.chains[JOB]
    chain[1] = replace(chain[1], body=chain[1].body + b"\x00")
    bench.assign("waits", 3)
    outcome = await bench.session.next()

    assert isinstance(outcome, ports.Parked)
    assert outcome.operator
    assert "commit 1" in outcome.reason


async def test_a8_a_job_whose_task_ends_without_an_outcome_is_handed_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """A lease without a task would be renewed for ever."""

    async def dies(self: Run, assignment: ports.Assignment) -> ports.Outcome:
        raise asyncio.CancelledError

    monkeypatch.setattr(Run, "hold", dies)
    bench.assign("waits", 1)
    outcome = await bench.session.next()

    assert isinstance(outcome, ports.Parked)
    assert outcome.operator
    assert bench.jobs.held == []


async def test_a_fenced_run_tells_the_scheduler(bench: Bench):
    """If the scheduler believes that this runner holds the job, the job would stay leased without running."""

    def fenced(append: object) -> asyncio.Future[Answer]:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        answer.set_result(Answer(AppendOutcome.FENCED))
        return answer

    bench.journal.append = fenced  # type: ignore[method-assign]
    bench.assign("waits", 1)
    outcome = await bench.session.next()

    assert outcome == ports.Parked("fenced: another lease wrote to the chain", operator=True)
    assert bench.jobs.held == []


async def test_b9_warm_jobs_stay_within_their_bytes(bench: Bench):
    """The job that parked first is rebuilt from its record; the one that parked last goes on where it stood."""
    bench.jobs = HeldJobs(bench.agents, bench.services, bench.session, warm_max=100, warm_bytes_max=200_000)
    for number in range(3):
        bench.assign("waits", 1, UUID(int=JOB.int + number), note="x" * 10_000)
        await bench.session.next()
    kept = REGISTRY.get_sample_value("aetheris_runner_jobs_warm_bytes")
    for number in (2, 0):
        bench.assign("waits", 2, UUID(int=JOB.int + number), note="x" * 10_000)
        await bench.session.next()

    assert kept is not None
    assert 100_000 < kept <= 200_000
    assert bench.ran.count("drive") == 3 + 1
