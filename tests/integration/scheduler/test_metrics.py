"""Every metric moves."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from aetheris_chassis import metrics
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb
from aetheris_scheduler.loops.gauges import Gauges
from prometheus_client.parser import text_string_to_metric_families

from .conftest import PostgresWorld, Served, eventually, serving_scheduler


def read() -> dict[str, float]:
    """Every sample of ours, labels included."""
    return {
        sample.name + "".join(f"/{value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
        if sample.name.startswith("aetheris_scheduler_") and not sample.name.endswith(("_created", "_bucket"))
    }


async def test_a_jobs_life_is_counted(scheduler: Served) -> None:
    before = read()
    async with scheduler.peer().stream() as runner:
        within = read()
        for state in (pb.JOB_STATE_COMPLETED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED):
            job = await scheduler.submit(idempotency_key=f"k{state}")
            await scheduler.submit(idempotency_key=f"k{state}")
            await runner.until(lambda job=job: job.job_id in runner.jobs)  # type: ignore[misc]
            await runner.ended(runner.job(job.job_id), credits=1, state=state)
            await scheduler.until(job.job_id, state)
    after = read()
    moved = {name: value - before.get(name, 0) for name, value in after.items()}

    assert moved["aetheris_scheduler_jobs_submitted_total"] == 3
    assert moved["aetheris_scheduler_jobs_leased_total"] == 3
    assert moved["aetheris_scheduler_start_seconds_count"] == 3
    for state in ("completed", "failed", "cancelled"):
        assert moved[f"aetheris_scheduler_jobs_ended_total/{state}"] == 1
    assert moved["aetheris_scheduler_tick_seconds_count"] >= 6
    assert within["aetheris_scheduler_sessions"] == 1

    async def gone() -> bool | None:
        return read()["aetheris_scheduler_sessions"] == 0 or None

    assert await eventually(gone)


async def test_the_wait_for_a_runner_is_measured(scheduler: Served) -> None:
    before = read()
    earliest = time.time()
    await scheduler.submit()
    latest = time.time()
    async with scheduler.peer(capacity=1).stream(credits=0) as runner:
        await runner.until(lambda: len(runner.renewals) >= 2)
        asked = time.time()
        await runner.say(credits=1)
        await runner.until(lambda: bool(runner.jobs))
        leased = time.time()
    waited = read()["aetheris_scheduler_start_seconds_sum"] - before["aetheris_scheduler_start_seconds_sum"]

    # It became ready between the first two moments, and was leased between the last two.
    assert latest + waited >= asked
    assert earliest + waited <= leased


async def test_lost_leases_and_poisoned_jobs_are_counted(postgres_world: PostgresWorld, tmp_path: Path) -> None:
    before = read()
    async with serving_scheduler(postgres_world.dsn, tmp_path, crash_limit=2, grace_s=0.05) as scheduler:
        job = await scheduler.submit()
        for _ in range(2):
            async with scheduler.peer().stream() as runner:
                await runner.until(lambda: bool(runner.jobs))
        found = await scheduler.until(job.job_id, pb.JOB_STATE_PARKED)
    after = read()

    assert found.park_reason.startswith("poisoned")
    assert after["aetheris_scheduler_jobs_reclaimed_total"] - before["aetheris_scheduler_jobs_reclaimed_total"] == 2
    assert after["aetheris_scheduler_jobs_poisoned_total"] - before["aetheris_scheduler_jobs_poisoned_total"] == 1


async def test_what_waits_is_sampled(postgres_world: PostgresWorld) -> None:
    for _ in range(3):
        await postgres_world.submit()
    sampling = asyncio.ensure_future(Gauges(postgres_world.store, every_s=0.01).run())

    async def sampled() -> bool | None:
        return read()["aetheris_scheduler_ready_jobs"] == 3 or None

    assert await eventually(sampled)
    await postgres_world.claim(await postgres_world.runner(), 2)

    async def fewer() -> bool | None:
        return read()["aetheris_scheduler_ready_jobs"] == 1 or None

    assert await eventually(fewer)
    sampling.cancel()
    await asyncio.gather(sampling, return_exceptions=True)
