"""Jobs that were present at two crashes run alone: over real streams, and for random schedules of crashes."""

from __future__ import annotations

import random
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb
from aetheris_scheduler.core.claim import AloneClaim, Claim, Slot
from aetheris_scheduler.core.job import JobState
from aetheris_scheduler.core.lifecycle import End, Progress, Release
from aetheris_scheduler.core.session import Hello, Skills
from aetheris_scheduler.store.tick import JobOutcome, Sweep, Tick

from .conftest import MemoryWorld, PostgresWorld, eventually, serving_scheduler
from .peer import ended, progressed, released

LIMIT = 4


async def test_b2_the_job_that_kills_its_runners_is_poisoned_and_its_neighbours_complete(
    postgres_world: PostgresWorld, tmp_path: Path
) -> None:
    async with serving_scheduler(postgres_world.dsn, tmp_path, crash_limit=LIMIT) as served:
        jobs = [(await served.submit()).job_id for _ in range(4)]
        culprit, together = jobs[1], 0

        async def not_held() -> bool | None:
            return (await served.job(culprit)).state != pb.JOB_STATE_LEASED or None

        while (await served.job(culprit)).state != pb.JOB_STATE_PARKED:
            async with served.peer().stream() as runner:
                await runner.until(lambda runner=runner: runner.jobs)
                while culprit not in runner.jobs:
                    # Alone, a neighbour comes to its end.
                    assert len(runner.jobs) == len(runner.settled) + 1
                    await runner.say(ended(runner.assignments[-1].job), credits=1)
                    seen = len(runner.jobs)
                    await runner.until(lambda runner=runner, seen=seen: len(runner.jobs) > seen)
                if together < 2:
                    await runner.until(lambda runner=runner: len(runner.jobs) == 4)
                    together += 1
            # The process has died with what it held.
            await eventually(not_held)
        states = [(await served.job(job)).state for job in jobs]
        poisoned = await served.job(culprit)
        async with served.peer().stream() as runner:
            for job in (job for job, state in zip(jobs, states, strict=True) if state == pb.JOB_STATE_READY):
                await runner.until(lambda runner=runner, job=job: job in runner.jobs)
                await runner.say(ended(runner.job(job)), credits=1)
            for job in jobs:
                if job != culprit:
                    await served.until(job, pb.JOB_STATE_COMPLETED)

    assert together == 2
    assert poisoned.park_reason.startswith(f"poisoned: its lease was lost {LIMIT} times")


async def test_b2_a_busy_runner_hands_back_what_it_holds_and_takes_all_again_afterwards(
    postgres_world: PostgresWorld, tmp_path: Path
) -> None:
    async with (
        serving_scheduler(postgres_world.dsn, tmp_path) as served,
        served.peer().stream() as runner,
    ):
        held = [(await served.submit()).job_id for _ in range(2)]
        await runner.until(lambda: set(runner.jobs) == set(held))
        suspect = (await served.submit(agent="later", start_after={"seconds": 4_000_000_000})).job_id
        await postgres_world.sql(
            "UPDATE scheduler.jobs SET crash_count = 2, state = 1, wake_at = NULL WHERE id = $1", UUID(suspect)
        )
        await runner.until(lambda: {n.job_id for n in runner.notices if n.kind == pb.Notice.KIND_PAUSE} == set(held))
        await runner.say(*(released(runner.job(job)) for job in held), credits=2)
        await runner.until(lambda: len(runner.jobs) == 3)
        alone = runner.jobs[-1]
        await runner.say(progressed(runner.job(suspect)))
        await runner.until(lambda: len(runner.jobs) == 5)

    assert alone == suspect
    assert set(runner.jobs[3:]) == set(held)


async def test_suspects_that_a_later_process_names_spare_the_others(
    postgres_world: PostgresWorld, tmp_path: Path
) -> None:
    async with serving_scheduler(postgres_world.dsn, tmp_path) as served:
        jobs = [(await served.submit()).job_id for _ in range(3)]
        peer = served.peer()
        async with peer.stream() as runner:
            await runner.until(lambda: len(runner.jobs) == 3)

        async def lost() -> bool | None:
            return all([(await served.job(job)).crash_count == 1 for job in jobs]) or None

        await eventually(lost)
        async with served.peer().stream(credits=0) as runner:
            named = pb.Suspects(session_id=peer.session, job_ids=jobs[:1])
            await runner.call.write(pb.WorkRequest(suspects=[named]))

            async def spared() -> bool | None:
                counts = [(await served.job(job)).crash_count for job in jobs]
                return counts == [1, 0, 0] or None

            assert await eventually(spared)


class Crashes:
    """A random history on a store in memory: some jobs kill the process that holds them, the others do not."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.limit = 1 + seed % LIMIT
        self.world = MemoryWorld()
        self.store = self.world.memory
        self.culprits: set[UUID] = set()
        self.sessions: list[Hello] = []

    async def play(self) -> None:
        draw = self.random
        jobs = [(await self.world.submit(tenant=draw.choice("ab"))).id for _ in range(12)]
        self.culprits = set(draw.sample(jobs, draw.randrange(1, 4)))
        for _ in range(400):
            if all(self.store.jobs[job].state in (JobState.COMPLETED, JobState.PARKED) for job in jobs):
                return
            await self._round()
        raise AssertionError("the jobs come to no end")

    async def _round(self) -> None:
        draw = self.random
        while len(self.sessions) < 3:
            hello = Hello(uuid4(), uuid4(), capacity=6)
            await self.store.open(hello, lease_s=60)
            self.sessions.append(hello)
        for hello in list(self.sessions):
            slot = Slot(hello.session, hello.stream, "")
            held = [job for job in self.store.jobs.values() if job.session == hello.session]
            alone = any(job.runs_alone for job in held)
            if not held and draw.random() < 0.5:
                await self.store.tick(Tick(alone=AloneClaim(Skills(), slot)))
            elif not alone:
                await self.store.tick(Tick(claims=[Claim(Skills(), [slot] * draw.randrange(1, 5), always=True)]))
            held = [job for job in self.store.jobs.values() if job.session == hello.session]
            if any(job.id in self.culprits for job in held) and draw.random() < 0.7:
                self.sessions.remove(hello)
                await self._die(hello)
                continue
            said = [(job, draw.choice([None, None, Progress(), Release(), End(JobState.COMPLETED)])) for job in held]
            await self.store.tick(
                Tick(
                    outcomes=[
                        JobOutcome(hello.session, job.id, job.lease, what)
                        for job, what in said
                        # A culprit comes to no commit before it kills its process.
                        if what is not None and job.id not in self.culprits
                    ]
                )
            )

    async def _die(self, hello: Hello) -> None:
        others = [session.session for session in self.sessions]
        self.world.clock.advance(61)
        await self.store.tick(Tick(sweep=Sweep(sessions=True, keep=others, crash_limit=self.limit)))
        for session in self.sessions:
            await self.store.renew([(session.session, session.stream)], lease_s=60)


@pytest.mark.parametrize("seed", range(200))
async def test_b2_no_schedule_of_crashes_poisons_a_bystander(seed: int) -> None:
    history = Crashes(seed)
    await history.play()
    poisoned = {job.id for job in history.store.jobs.values() if job.operator_only}

    assert poisoned == history.culprits, f"seed {seed}"
