"""How far a job is, as its holder says while it holds it."""

from __future__ import annotations

from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb

from .conftest import Served
from .peer import progressed, released


async def test_a_holder_says_how_far_it_is_and_the_next_one_has_said_nothing(scheduler: Served) -> None:
    async with scheduler.peer().stream() as runner:
        job = await scheduler.submit()
        await runner.until(lambda: job.job_id in runner.jobs)
        held = runner.job(job.job_id)
        before = await scheduler.job(job.job_id)
        await runner.say(progressed(held, fraction=0.25, note="page 1 of 4"))
        await runner.until(lambda: len(runner.settled) == 1)
        said = await scheduler.job(job.job_id)
        # A commit alone, and a note alone, leave the fraction as it was.
        await runner.say(progressed(held))
        await runner.say(progressed(held, note="page 2 of 4"))
        await runner.until(lambda: len(runner.settled) == 3)
        later = await scheduler.job(job.job_id)
        await runner.say(released(held), credits=1)
        await runner.until(lambda: len(runner.jobs) == 2)
        next_lease = await scheduler.job(job.job_id)

        assert not before.HasField("progress")
        assert (said.progress.fraction, said.progress.note) == (0.25, "page 1 of 4")
        assert said.progress.HasField("time")
        assert (later.progress.fraction, later.progress.note) == (0.25, "page 2 of 4")
        assert next_lease.lease == 2
        assert not next_lease.HasField("progress")


async def test_nonsense_is_refused(scheduler: Served) -> None:
    async with scheduler.peer().stream() as runner:
        job = await scheduler.submit()
        await runner.until(lambda: job.job_id in runner.jobs)
        await runner.say(progressed(runner.job(job.job_id), fraction=7.0))
        await runner.until(lambda: runner.over)

        assert not (await scheduler.job(job.job_id)).HasField("progress")
        assert (await scheduler.job(job.job_id)).state != pb.JOB_STATE_FAILED
