"""X1 over random families: a parent starts random programs, and one process after the other dies under them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from aetheris import agent, gather, spawn
from aetheris.definitions import AgentDefinition
from aetheris_journal.chain import first_break
from aetheris_ledger.verify import verify
from aetheris_scheduler.core.job import JobState

from harness.cluster_simulation import ClusterSimulation
from harness.crash import Fuse
from harness.programs import KINDS, Program, agent_of, commands, draw, shown
from harness.world import World

CHUNKS, CHUNK, CHILDREN = 4, 3, 3
# Commands that need nothing from outside; the other files here test the others.
ALONE = set(KINDS) - {"signal", "approval", "awakeable", "plain", "idempotent", "once", "timeout", "declined"}


def alone(seed: int) -> Program:
    """The first program from this seed on that needs no signal, message, approval or token."""
    for each in range(seed, seed + 1_000):
        program = draw(each, 3)
        if {command.kind for command in commands(program)} <= ALONE:
            return program
    raise AssertionError("no such program")


def parent_and_children(world: World, programs: Sequence[Program]) -> list[AgentDefinition[Any]]:
    """A parent that awaits one child, then the rest side by side; a failed one is an answer."""
    children: list[AgentDefinition[Any]] = []
    for number, program in enumerate(programs):
        made = agent_of(program, world.outside)
        children.append(agent(f"child-{number}")(made.function))

    async def end_of(child: AgentDefinition[Any]) -> str:
        try:
            return str(await (await spawn(child)))
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    @agent("parent")
    async def parent() -> list[Any]:
        first = await end_of(children[0])
        return [first, *await gather(*(end_of(child) for child in children[1:]))]

    return [parent, *children]


async def lived(
    programs: Sequence[Program], fuses: Sequence[Fuse], *, warm: bool
) -> tuple[ClusterSimulation, UUID, int]:
    world = World()
    agents = parent_and_children(world, programs)
    cluster = ClusterSimulation(agents, world)
    parent = await cluster.submit(agents[0])
    counting = Fuse(-1)
    await cluster.live([*fuses, counting], warm=warm)
    return cluster, parent, counting.calls


async def held_to(reference: ClusterSimulation, cluster: ClusterSimulation, root: UUID) -> None:
    """As without a fault: the same end of everybody, the same changes of the world, each once."""
    outside = cluster.world.outside
    assert set(outside.calls.values()) <= {1}
    assert outside.without_intent == []
    assert sorted(outside.results.values()) == sorted(reference.world.outside.results.values())
    assert len(cluster.scheduler.jobs) == len(reference.scheduler.jobs)
    (before,) = [job for job in reference.scheduler.jobs.values() if job.parent is None]
    after = cluster.scheduler.jobs[root]
    assert (after.state, after.result, after.failure) == (before.state, before.result, before.failure)
    for job in cluster.scheduler.jobs.values():
        assert job.state in (JobState.COMPLETED, JobState.FAILED)
        assert first_break(job.id, cluster.world.commits(job.id)) is None
        report = await verify(cluster.world.store, job.id)
        assert report.intact, report.problem


@pytest.mark.timeout(120)
@pytest.mark.parametrize("chunk", range(CHUNKS))
async def test_a_parent_and_its_children_come_to_the_same_end_after_any_crash(chunk: int) -> None:
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        dice = random.Random(seed)
        programs = [alone(dice.randrange(100_000)) for _ in range(CHILDREN)]
        reference, root, writes = await lived(programs, [], warm=True)
        await held_to(reference, reference, root)
        for _ in range(10):
            fuses = [Fuse(dice.randrange(writes), after=dice.random() < 0.5) for _ in range(dice.randint(1, 3))]
            where = f"seed {seed}: {[(fuse.step, fuse.after) for fuse in fuses]} in {[shown(one) for one in programs]}"
            try:
                cluster, root, _ = await lived(programs, fuses, warm=dice.random() < 0.5)
                await held_to(reference, cluster, root)
            except AssertionError as wrong:
                raise AssertionError(f"{where}: {wrong}") from wrong
