"""Children are in their parent's bucket, and children of jobs that an earlier version began keep their ids."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from aetheris import Child, agent, checkpoint, spawn
from aetheris.definitions import AgentDefinition
from aetheris_engine import child as engine_child
from aetheris_engine import takeover
from aetheris_kernel.ids import bucket_of
from aetheris_scheduler.core.job import JobState

from harness.cluster_simulation import ClusterSimulation
from harness.crash import Fuse


def parent_of_keys() -> list[AgentDefinition[Any]]:
    @agent("leaf")
    async def leaf(n: int) -> int:
        return n

    @agent("parent")
    async def parent(*, state: Any = None) -> int:
        """The same key in two rounds: one child."""
        first = await spawn(leaf, 1, key="k")
        if state is None:
            await spawn(leaf, 2)
            await first
            return await checkpoint(first.job_id)
        assert first.job_id == state
        return int(await Child(first.job_id))

    return [leaf, parent]


async def test_children_with_and_without_a_key_are_in_the_bucket_of_their_parent() -> None:
    agents = parent_of_keys()
    cluster = ClusterSimulation(agents)
    job = await cluster.submit(agents[-1])
    await cluster.live()

    assert cluster.scheduler.jobs[job].state is JobState.COMPLETED
    assert [bucket_of(child.id) for child in cluster.children(job)] == [bucket_of(job)] * 2


async def test_a_job_that_an_earlier_version_began_keeps_the_ids_of_its_children(monkeypatch) -> None:
    """Its first round runs as an earlier version ran it; then a runner of this version takes over, before and after
    the checkpoint."""
    now = takeover.created

    def earlier(*given: Any) -> Any:
        monkeypatch.setattr(engine_child, "in_bucket", lambda job_id, bucket: job_id)
        created = now(*given)
        return type(created)(*[getattr(created, name) for name in EARLIER_FIELDS], at=created.at)

    async def run(fuse: Fuse, *, warm: bool) -> tuple[ClusterSimulation, UUID]:
        monkeypatch.setattr(takeover, "created", earlier)
        agents = parent_of_keys()
        cluster = ClusterSimulation(agents)
        # The bucket of a job of an earlier version is as random as its other bits.
        job = await cluster.submit(agents[-1])
        await cluster.live([fuse], warm=warm, once=True)
        monkeypatch.undo()
        await cluster.live(warm=warm)
        return cluster, job

    counted = Fuse(-1)
    monkeypatch.setattr(takeover, "created", earlier)
    agents = parent_of_keys()
    cluster = ClusterSimulation(agents)
    await cluster.submit(agents[-1])
    await cluster.live([counted])
    monkeypatch.undo()
    for number in range(counted.calls):
        cluster, job = await run(Fuse(number, after=True), warm=False)

        assert cluster.scheduler.jobs[job].state is JobState.COMPLETED, number
        named = engine_child._named(job, "k")
        assert named in {child.id for child in cluster.children(job)}, number
        assert len(cluster.children(job)) == 2, number


EARLIER_FIELDS = (
    "agent", "tenant", "queue", "input", "parent_job_id", "idempotency_key", "actor", "forked_from_job_id",
    "forked_at_seq", "fork_effects",
)  # fmt: skip
