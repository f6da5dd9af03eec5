"""Both stores tell the same story: the same ticks, drawn at random, are answered alike and leave the same jobs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from aetheris_kernel.errors import Refusal
from aetheris_scheduler.core.claim import AloneClaim, Claim, Slot
from aetheris_scheduler.core.job import JobState
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
from aetheris_scheduler.store.contract import Ends
from aetheris_scheduler.store.tick import JobOrder, JobOutcome, Placement, Submitted, Suspects, Sweep, Tick, Ticked

from .conftest import MemoryWorld, PostgresWorld, World

STEPS = 60
FAR = datetime(2126, 1, 1, tzinfo=UTC)
PAST = datetime(2000, 1, 1, tzinfo=UTC)
SAID = [
    Park("signal"),
    Park("past", PAST),
    Park("far", FAR),
    Park("doubt", operator=True),
    Release("bye"),
    Release("away", timedelta(days=9)),
    Release("owes", needs_code=True),
    Park("changed", wants="v1"),
    Release("changed", wants="v2"),
    End(JobState.COMPLETED, b"1"),
    End(JobState.FAILED),
    Progress(),
    Progress(0.5, "half"),
    Progress(note="still at it"),
]
ORDERS = [Wake(), Wake(), Cancel("enough", "ada"), Terminate("now", "bob"), Pause(), Resume(), Requeue()]
AGENTS = ["a", "b", "c"]


class Dice:
    """Draws the same for both worlds, from what the first of them holds."""

    def __init__(self, seed: int, world: World) -> None:
        self.random = random.Random(seed)
        self.world = world
        self.runners: list[Hello] = []
        self.jobs: list[UUID] = []

    async def tick(self) -> Tick:
        draw = self.random
        some = draw.sample(self.jobs, min(len(self.jobs), draw.randrange(5)))
        standing = await self.world.store.get(some)
        held = [job for job in standing.values() if job.session is not None]
        return Tick(
            suspects=self._suspects(),
            versions=draw.random() < 0.3,
            alone=self._alone(),
            outcomes=[
                JobOutcome(
                    job.session if draw.random() < 0.9 else UUID(int=1),  # type: ignore[arg-type]
                    job.id,
                    job.lease - (draw.random() < 0.1),
                    draw.choice(SAID),
                )
                for job in held
            ],
            sweep=Sweep(timers=True, deadlines=True, sessions=True, terminations=True, crash_limit=3)
            if draw.random() < 0.3
            else None,
            placements=[Placement(self._submission(), self._slot()) for _ in range(draw.randrange(3))],
            orders=[JobOrder(job, draw.choice(ORDERS)) for job in some],
            ending=[slot for slot in (self._slot(), self._slot()) if slot is not None],
            claims=[self._claim()] if self.runners and draw.random() < 0.7 else [],
        )

    def _submission(self) -> Any:
        draw = self.random
        made = self.world.submission(
            agent=draw.choice(AGENTS),
            priority=draw.randrange(3),
            tenant=draw.choice(["acme", "acme", "zeta"]),
            idempotency_key=draw.choice(["", "", "k1", "k2", "k3"]),
            input=draw.choice([b'{"n": 1}', b'{"n": 2}']),
            start_after=draw.choice([None, None, PAST, FAR]),
            deadline=draw.choice([None, None, PAST, FAR]),
            parent=draw.choice([None, *self.jobs[-6:]]),
        )
        self.jobs.append(made.id)
        return made

    def _slot(self) -> Slot | None:
        if not self.runners or self.random.random() < 0.5:
            return None
        runner = self.random.choice(self.runners)
        return Slot(runner.session, runner.stream, "", runner.versions)

    def _claim(self) -> Claim:
        runner = self.random.choice(self.runners)
        slots = [Slot(runner.session, runner.stream, "", runner.versions)] * self.random.randrange(1, 5)
        agents = frozenset(self.random.sample(AGENTS, 2)) if self.random.random() < 0.5 else frozenset()
        held = {"acme": self.random.randrange(4)}
        return Claim(Skills(agents), slots, always=True, held=held)

    def _alone(self) -> AloneClaim | None:
        if not self.runners or self.random.random() < 0.5:
            return None
        runner = self.random.choice(self.runners)
        return AloneClaim(Skills(), Slot(runner.session, runner.stream, "", runner.versions))

    def _suspects(self) -> list[Suspects]:
        if not self.runners or self.random.random() < 0.7:
            return []
        jobs = self.random.sample(self.jobs, min(len(self.jobs), 2))
        return [Suspects(self.random.choice(self.runners).session, frozenset(jobs))]


def answers(ticked: Ticked) -> Any:
    """All that does not depend on when it was."""
    return (
        ticked.settled,
        [
            (answer.job.id, answer.created, answer.job.state, answer.job.lease, answer.job.wake_at is None)
            if isinstance(answer, Submitted)
            else type(answer)
            for answer in ticked.submitted
        ],
        [(answer.state, _reason(answer.refused), answer.notice) for answer in ticked.ordered],
        [(leased.job.id, leased.job.session, leased.job.lease, leased.job.input) for leased in ticked.leased],
        ticked.ending,
        ticked.alone,
        ticked.claimed,
        sorted(ticked.expired),
        sorted((lost.job, lost.lease, lost.poisoned) for lost in ticked.lost),
        sorted(ticked.overdue_jobs),
        [(parent, woken.state, woken.notice) for parent, woken in zip(ticked.parents, ticked.woken, strict=True)],
    )


def ticked_parents(tick: Tick, jobs: Sequence[UUID]) -> Sequence[UUID]:
    """Some whose children may have ended."""
    return jobs[-3:] if any(isinstance(outcome.what, End) for outcome in tick.outcomes) else ()


def _reason(refused: Refusal | None) -> str:
    return "" if refused is None else refused.reason


async def jobs_of(world: World, ids: Sequence[UUID]) -> Any:
    """All but the moments, which are each store's own."""
    found = (await world.store.get(ids)).values()
    moments = {"since": PAST, "created_at": PAST, "started_at": None, "progress_at": None}
    plain = [
        replace(
            job,
            digest=b"",
            wake_at=job.wake_at and PAST,
            start_after=job.start_after and PAST,
            deadline=job.deadline and PAST,
            end_asked_at=job.end_asked_at and PAST,
            **moments,
        )
        for job in found
    ]
    return sorted(plain, key=lambda job: job.id)


@pytest.mark.parametrize("seed", range(12))
async def test_the_same_ticks_have_the_same_answers_and_leave_the_same_jobs(
    postgres_world: PostgresWorld, seed: int
) -> None:
    worlds: list[World] = [MemoryWorld(), postgres_world]
    dice = Dice(seed, worlds[0])
    for number in range(STEPS):
        if dice.random.random() < 0.2:
            agents = tuple(dice.random.sample(AGENTS, 2)) if dice.random.random() < 0.7 else ("*",)
            versions = {name: dice.random.choice(["v1", "v2"]) for name in AGENTS if dice.random.random() < 0.5}
            ids = dice.world.clock.new_id(), dice.world.clock.new_id()
            hello = Hello(*ids, capacity=9, agents=agents, versions=versions)
            dice.runners.append(hello)
            for world in worlds:
                await world.store.open(hello, lease_s=60)
        if dice.random.random() < 0.1:
            for world in worlds:
                await world.pass_time(45)
        tick = await dice.tick()
        first, second = [answers(await world.store.tick(tick)) for world in worlds]

        assert first == second, f"seed {seed}, step {number}: {tick}"
        assert await jobs_of(worlds[0], dice.jobs) == await jobs_of(worlds[1], dice.jobs), f"seed {seed}, step {number}"
        for parent in ticked_parents(tick, dice.jobs):
            asked = Ends(parent, 0, dice.jobs)
            assert await worlds[0].store.ends(asked) == await worlds[1].store.ends(asked), f"seed {seed}, step {number}"
        worlds[0].clock.advance(0.001)
