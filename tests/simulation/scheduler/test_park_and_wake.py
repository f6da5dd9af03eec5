"""J5: park and wake never miss each other, in every order in which two senders and the job's holder can take turns."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from aetheris_scheduler.core.job import Job, JobState
from aetheris_scheduler.core.lifecycle import Park, Wake
from aetheris_scheduler.core.session import Hello
from aetheris_scheduler.core.submission import Submission, checked
from aetheris_scheduler.store.memory import MemoryStore
from aetheris_scheduler.store.tick import JobOrder, JobOutcome, Placement, Tick, claim_for

from harness.clock import SimClock


def interleavings(*lengths: int) -> Iterator[tuple[int, ...]]:
    """Every order in which actors with so many steps each can take turns."""
    actors = [actor for actor, length in enumerate(lengths) for _ in range(length)]
    yield from sorted(set(itertools.permutations(actors)))


class Holder:
    """A holder: takes the job, looks into the inbox, parks if there is nothing."""

    def __init__(self, store: MemoryStore, hello: Hello, inbox: set[str], wanted: int) -> None:
        self.store, self.hello, self.inbox, self.wanted = store, hello, inbox, wanted
        self.job: Job | None = None
        self.seen: set[str] | None = None
        self.done = False

    async def step(self) -> bool:
        """False where there is nothing to do: the job is not to be had."""
        if self.done:
            return True
        if self.job is None:
            leased = (await self.store.tick(Tick(claims=[claim_for(self.hello.session, self.hello.stream)]))).leased
            self.job, self.seen = (leased[0].job if leased else None), None
            return bool(leased)
        if self.seen is None:
            self.seen = set(self.inbox)
            self.done = len(self.seen) == self.wanted
            return True
        outcome = JobOutcome(self.hello.session, self.job.id, self.job.lease, Park("signal"))
        await self.store.tick(Tick(outcomes=[outcome]))
        self.job = None
        return True


@pytest.mark.parametrize("order", list(interleavings(2, 2, 4)), ids=lambda order: "".join(map(str, order)))
async def test_j5_no_wake_is_lost_however_two_senders_and_the_holder_take_turns(order: tuple[int, ...]) -> None:
    clock = SimClock()
    store = MemoryStore(clock)
    hello = Hello(clock.new_id(), clock.new_id(), capacity=1)
    await store.open(hello, lease_s=60)
    submission = checked(Submission(id=clock.new_id(), tenant="acme", agent="greeter", input=b"{}"))
    await store.tick(Tick(placements=[Placement(submission)]))
    (job_id,) = store.jobs
    inbox: set[str] = set()
    holder = Holder(store, hello, inbox, wanted=2)
    sent: dict[int, int] = {0: 0, 1: 0}
    for actor in order:
        if actor == 2:
            await holder.step()
        elif sent[actor] == 0:
            # First it is durable, then the job is woken.
            inbox.add(f"signal {actor}")
            sent[actor] = 1
        else:
            await store.tick(Tick(orders=[JobOrder(job_id, Wake())]))
    for _ in range(20):
        if holder.done or not await holder.step():
            break

    assert holder.done, f"parked for ever with {inbox} unseen"
    assert store.jobs[job_id].state in (JobState.LEASED, JobState.READY)


def test_the_interleavings_are_all_there_are() -> None:
    found: list[Any] = list(interleavings(2, 2, 4))

    assert len(found) == len(set(found)) == 420
