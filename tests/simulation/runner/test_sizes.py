"""Sizes that are each allowed, together in one job."""

from __future__ import annotations

from typing import Any

from aetheris import agent, checkpoint, gather, race, sleep, spawn, step
from aetheris_engine import ports
from aetheris_journal import events as e
from aetheris_journal import limits
from aetheris_scheduler.core.job import JobState

from harness.cluster_simulation import ClusterSimulation
from harness.world import JOB, World


def message(size: int) -> bytes:
    """The input of a job, of exactly that size."""
    empty = len(b'{"args":[""]}')
    return b'{"args":["' + b"x" * (size - empty) + b'"]}'


async def test_a7_the_largest_input_runs() -> None:
    @agent("length")
    async def length(text: str) -> int:
        return len(text)

    world = World()

    outcome = await world.drive(length, JOB, message(limits.INPUT_BYTES_MAX))

    assert isinstance(outcome, ports.Completed)


async def test_a7_a_large_input_and_the_result_of_the_first_step_run() -> None:
    @step
    async def first(text: str) -> str:
        return text[:300_000]

    @agent("halve")
    async def halve(text: str) -> int:
        return len(await first(text))

    world = World()

    outcome = await world.drive(halve, JOB, message(400_000))

    assert outcome == ports.Completed(b"300000")


async def test_a6_four_hundred_large_calls_that_fail_at_once_are_recorded() -> None:
    @step
    async def call(n: int, text: str) -> int:
        raise OSError("the provider is away" * 500)

    @agent("outage")
    async def outage(size: int) -> int:
        async def one(n: int) -> int:
            try:
                return await call(n, "x" * size)
            except OSError:
                return 1

        return sum(await gather(*[one(n) for n in range(400)]))

    world = World()

    outcome = await world.drive(outage, JOB, b'{"args":[60000]}')

    assert outcome == ports.Completed(b"400")


async def test_a7_thirty_open_children_with_large_inputs_are_carried_over_a_checkpoint() -> None:
    @agent("leaf")
    async def leaf(text: str) -> int:
        await sleep("1h")
        return len(text)

    @agent("parent")
    async def parent(*, state: Any = None) -> int:
        if state is None:
            for n in range(30):
                await spawn(leaf, str(n) + "x" * 40_000)
            return await checkpoint(1)
        await sleep("2h")
        return int(state)

    cluster = ClusterSimulation([parent, leaf])
    job = await cluster.submit(parent)
    await cluster.live(warm=False)

    assert cluster.scheduler.jobs[job].state is JobState.COMPLETED
    assert [child.state for child in cluster.children(job)] == [JobState.COMPLETED] * 30


async def test_a_child_that_was_begun_and_not_submitted_is_submitted_before_a_checkpoint_forgets_its_input() -> None:
    """Its branch lost a race between the record of the child and its submission."""

    @agent("leaf")
    async def leaf(n: int) -> int:
        await sleep("1h")
        return n

    @step
    async def quick() -> int:
        return 1

    @agent("parent")
    async def parent(*, state: Any = None) -> int:
        if state is None:
            await race(spawn(leaf, 7, on_parent_close="abandon"), quick())
            return await checkpoint(1)
        await sleep("2h")
        return int(state)

    cluster = ClusterSimulation([parent, leaf])
    job = await cluster.submit(parent)
    await cluster.live(warm=False)
    started = [event for event in cluster.world.events(job) if isinstance(event, e.ChildStarted)]

    assert len(started) == 1
    assert [str(child.id) for child in cluster.children(job)] == [started[0].child_job_id]
