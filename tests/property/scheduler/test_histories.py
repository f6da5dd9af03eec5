"""For all histories: leases grow, endings stay, keys are unique, and no wake goes unseen."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

from aetheris_scheduler.core.claim import Claim, Slot
from aetheris_scheduler.core.job import Job, JobState
from aetheris_scheduler.core.lifecycle import (
    Cancel,
    End,
    Park,
    Pause,
    Progress,
    Release,
    Requeue,
    Resume,
    Terminate,
    Wake,
)
from aetheris_scheduler.core.session import Hello, Skills
from aetheris_scheduler.core.submission import Submission, checked
from aetheris_scheduler.store.memory import MemoryStore
from aetheris_scheduler.store.tick import JobOrder, JobOutcome, Placement, Submitted, Sweep, Tick
from hypothesis import given
from hypothesis import strategies as st

from harness.clock import SimClock

SAID = [
    Park("s"),
    Park("d", operator=True),
    Release(),
    Release("", timedelta(seconds=3)),
    End(JobState.COMPLETED),
    Progress(),
]
ORDERS = [Wake(), Cancel(), Terminate(), Pause(), Resume(), Requeue()]

# What happens, with small numbers that choose among the jobs and runners there are.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["submit", "claim", "say", "order", "time", "come back", "sweep"]),
        st.integers(0, 7),
        st.integers(0, 7),
    ),
    max_size=60,
)


class Play:
    def __init__(self) -> None:
        self.clock = SimClock()
        self.store = MemoryStore(self.clock)
        self.runners: list[Hello] = []
        self.leases: dict[UUID, list[int]] = {}
        self.ended: dict[UUID, Job] = {}

    async def step(self, what: str, one: int, other: int) -> None:
        jobs = sorted(self.store.jobs)
        job = jobs[one % len(jobs)] if jobs else None
        runner = self.runners[other % len(self.runners)] if self.runners else None
        match what:
            case "submit":
                await self._submit(f"k{one}" if one < 4 else "", other)
            case "come back":
                await self._come_back(one)
            case "claim" if runner:
                slots = [Slot(runner.session, runner.stream, "")] * (one + 1)
                ticked = await self.store.tick(Tick(claims=[Claim(Skills(), slots, always=True)]))
                for leased in ticked.leased:
                    self.leases.setdefault(leased.job.id, []).append(leased.job.lease)
            case "say" if job and runner:
                said = JobOutcome(runner.session, job, self.store.jobs[job].lease, SAID[other % len(SAID)])
                await self.store.tick(Tick(outcomes=[said]))
            case "order" if job:
                await self.store.tick(Tick(orders=[JobOrder(job, ORDERS[other % len(ORDERS)])]))
            case "time":
                self.clock.advance(one)
            case "sweep":
                await self.store.tick(Tick(sweep=Sweep(timers=True, sessions=True, crash_limit=3)))
            case _:
                pass

    async def _submit(self, key: str, body: int) -> None:
        submission = checked(
            Submission(
                id=self.clock.new_id(), tenant="t", agent="a", input=b'{"n": %d}' % (body % 2), idempotency_key=key
            )
        )
        before = len(self.store.jobs)
        (answer,) = (await self.store.tick(Tick(placements=[Placement(submission)]))).submitted
        created = isinstance(answer, Submitted) and answer.created
        assert len(self.store.jobs) == before + created

    async def _come_back(self, one: int) -> None:
        if one < 4 or not self.runners:
            self.runners.append(Hello(self.clock.new_id(), self.clock.new_id(), capacity=9))
        hello = self.runners[-1]
        try:
            await self.store.open(hello, lease_s=5)
        except Exception:
            self.runners.remove(hello)

    def check(self) -> None:
        for job in self.store.jobs.values():
            assert (job.session is not None) == (job.state is JobState.LEASED)
            assert job.state is JobState.PARKED or (job.wake_at is None and not job.operator_only)
            if job.id in self.ended:
                assert job == self.ended[job.id]
            elif job.state.ended:
                self.ended[job.id] = job
        for leases in self.leases.values():
            assert leases == sorted(set(leases))
        keys = [job.idempotency_key for job in self.store.jobs.values() if job.idempotency_key]
        assert len(keys) == len(set(keys))


@given(STEPS)
def test_leases_grow_endings_stay_and_keys_are_unique(steps: list[tuple[str, int, int]]) -> None:
    async def play() -> None:
        played = Play()
        for step in steps:
            await played.step(*step)
            played.check()

    asyncio.run(play())


WAITING: Any = st.lists(st.sampled_from(["wake", "park", "claim", "lose", "cancel", "pause", "resume"]), max_size=40)


@given(WAITING)
def test_j5_a_wake_is_always_followed_by_a_look_at_the_inbox(steps: list[str]) -> None:
    """A look is a lease: its holder reads the inbox. No wake may be left without one to come."""

    async def play() -> None:
        clock = SimClock()
        store = MemoryStore(clock)
        hello = Hello(clock.new_id(), clock.new_id(), capacity=1)
        await store.open(hello, lease_s=1_000_000)
        job_id = clock.new_id()
        await store.tick(
            Tick(placements=[Placement(checked(Submission(id=job_id, tenant="t", agent="a", input=b"{}")))])
        )
        unseen = False
        for step in steps:
            job = store.jobs[job_id]
            match step:
                case "wake":
                    unseen = True
                    await store.tick(Tick(orders=[JobOrder(job_id, Wake())]))
                case "park":
                    await store.tick(Tick(outcomes=[JobOutcome(hello.session, job_id, job.lease, Park("signal"))]))
                case "claim":
                    claim = Claim(Skills(), [Slot(hello.session, hello.stream, "")], always=True)
                    if (await store.tick(Tick(claims=[claim]))).leased:
                        unseen = False
                case "lose":
                    hello = Hello(hello.session, clock.new_id(), capacity=1)
                    await store.open(hello, lease_s=1_000_000)
                case "cancel" | "pause" | "resume":
                    order = {"cancel": Cancel(), "pause": Pause(), "resume": Resume()}[step]
                    await store.tick(Tick(orders=[JobOrder(job_id, order)]))
            job = store.jobs[job_id]
            assert not unseen or job.state is JobState.READY or (job.state is JobState.LEASED and job.wake)

    asyncio.run(play())
