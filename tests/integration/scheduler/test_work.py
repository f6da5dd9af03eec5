"""A runner's session, over real streams."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb

from .conftest import PostgresWorld, Served, eventually, serving_scheduler
from .peer import Stream, ended, parked, progressed, released


async def test_a_job_goes_to_a_runner_with_its_input_and_comes_back_with_its_result(scheduler: Served) -> None:
    async with scheduler.peer().stream() as runner:
        job = await scheduler.submit(input=b'{"args": [1]}', traceparent="00-ab-cd-01", idempotency_key="k")
        await runner.until(lambda: job.job_id in runner.jobs)
        assigned = runner.job(job.job_id)
        waiting = asyncio.ensure_future(scheduler.api.Get(pb.GetRequest(job_id=job.job_id, wait=timedelta(seconds=5))))
        await runner.ended(assigned, credits=1)

        answer = (await waiting).job
        assert (assigned.input, assigned.lease, assigned.runner_id) == (b'{"args": [1]}', 1, "peer")
        assert (answer.state, answer.result, answer.traceparent) == (pb.JOB_STATE_COMPLETED, b'"done"', "00-ab-cd-01")
        assert runner.settled == [pb.Settled(job_id=job.job_id, lease=1, effective=True)]
        assert answer.HasField("start_time")
        assert answer.HasField("finish_time")


async def test_j2_the_jobs_of_a_lost_stream_run_elsewhere_after_the_grace_and_before_the_lease_is_over(
    postgres_world: PostgresWorld, tmp_path: Path
) -> None:
    async with (
        serving_scheduler(postgres_world.dsn, tmp_path, lease_s=300.0, grace_s=0.2) as scheduler,
        scheduler.peer().stream(credits=0) as survivor,
    ):
        async with scheduler.peer().stream() as dying:
            job = await scheduler.submit()
            await dying.until(lambda: job.job_id in dying.jobs)
            await survivor.say(credits=5)
            not_before = time.monotonic() + scheduler.settings.grace_s
        await survivor.until(lambda: job.job_id in survivor.jobs)

        assert time.monotonic() >= not_before
        again = survivor.job(job.job_id)
        assert (again.lease, again.crash_count) == (3, 1)


async def test_j3_the_jobs_of_a_runner_that_stops_are_ready_without_any_grace(
    postgres_world: PostgresWorld, tmp_path: Path
) -> None:
    # It has room left, but does not get back what it hands back.
    async with (
        serving_scheduler(postgres_world.dsn, tmp_path, lease_s=300.0, grace_s=300.0) as scheduler,
        scheduler.peer(capacity=60).stream() as leaving,
    ):
        jobs = [(await scheduler.submit()).job_id for _ in range(20)]
        await leaving.until(lambda: set(leaving.jobs) == set(jobs))
        async with scheduler.peer(capacity=20).stream() as staying:
            await leaving.say(*(released(leaving.job(job)) for job in jobs))
            await leaving.goodbye()
            await staying.until(lambda: len(staying.jobs) >= 20)

            assert sorted(staying.jobs) == sorted(jobs)
            assert len(leaving.jobs) == 20
            assert {staying.job(job).crash_count for job in jobs} == {0}
            await leaving.until(lambda: leaving.over)
            assert (leaving.code, len(leaving.settled)) == (grpc.StatusCode.OK, 20)

            # And its session is gone: there is no lease left to wait for.
            async def alone() -> list[int] | None:
                runners = (await scheduler.api.Runners(pb.RunnersRequest())).runners
                return [runner.held for runner in runners] if len(runners) == 1 else None

            assert await eventually(alone, 1.0) == [20]


async def test_a_stream_that_comes_back_within_the_grace_keeps_its_jobs(scheduler: Served) -> None:
    peer = scheduler.peer()
    async with peer.stream() as before:
        job = await scheduler.submit()
        await before.until(lambda: job.job_id in before.jobs)
        assigned = before.job(job.job_id)
    async with peer.stream(held=[assigned]) as after:
        assert after.welcome is not None
        assert not after.welcome.lost
        # Well beyond the grace, which two renewals are, it still is its own.
        await after.until(lambda: len(after.renewals) >= 3)
        await after.ended(assigned)
        await after.until(lambda: after.settled)

        assert after.settled[0].effective
        assert after.jobs == []


async def test_what_a_session_was_sent_but_never_received_is_given_again(
    postgres_world: PostgresWorld, scheduler: Served
) -> None:
    peer = scheduler.peer()
    async with peer.stream() as before:
        job = await scheduler.submit()
        await before.until(lambda: job.job_id in before.jobs)
    # It comes back and knows nothing of the job, as if the stream had broken before the frame.
    async with peer.stream(held=[]) as after:
        await after.until(lambda: job.job_id in after.jobs)

        assert after.job(job.job_id).lease == 3
        assert after.job(job.job_id).crash_count == 0


async def test_an_outcome_that_was_under_way_is_said_again_and_counts(scheduler: Served) -> None:
    peer = scheduler.peer()
    async with peer.stream() as before:
        job = await scheduler.submit()
        await before.until(lambda: job.job_id in before.jobs)
        assigned = before.job(job.job_id)
    async with peer.stream(outcomes=[ended(assigned)]) as after:
        await after.until(lambda: after.settled)
        await after.say(ended(assigned))
        await after.until(lambda: len(after.settled) == 2)

        assert [settled.effective for settled in after.settled] == [True, True]
        assert after.jobs == []
        assert (await scheduler.job(job.job_id)).state == pb.JOB_STATE_COMPLETED


async def test_x3_a_stream_that_carries_data_but_no_beats_expires(scheduler: Served) -> None:
    async with scheduler.peer().stream(beating_s=None) as chatty, scheduler.peer().stream(credits=0) as other:
        job = await scheduler.submit()
        await chatty.until(lambda: job.job_id in chatty.jobs)
        await other.say(credits=5)

        async def chat() -> None:
            while not chatty.over:
                await chatty.say(progressed(chatty.job(job.job_id)))
                await asyncio.sleep(0.05)

        chatting = asyncio.ensure_future(chat())
        await other.until(lambda: job.job_id in other.jobs)
        await chatty.until(lambda: chatty.over)
        chatting.cancel()
        await asyncio.gather(chatting, return_exceptions=True)

        assert chatty.code is grpc.StatusCode.FAILED_PRECONDITION
        assert (chatty.notices[-1].kind, chatty.notices[-1].job_id) == (pb.Notice.KIND_LOST, job.job_id)


async def test_x3_a_runner_that_beats_but_does_not_read_expires(scheduler: Served) -> None:
    """It cannot know that its lease is renewed, so it will stop its jobs; the scheduler must not keep them for it."""
    heavy = b'{"args": ["' + b"x" * 1_000_000 + b'"]}'
    jobs = [(await scheduler.submit(input=heavy)).job_id for _ in range(8)]
    async with scheduler.peer(capacity=8).stream(listening=False):
        await scheduler.until(jobs[0], pb.JOB_STATE_LEASED)
        async with scheduler.peer(capacity=8).stream() as other:
            await other.until(lambda: set(other.jobs) == set(jobs), within_s=10)

            assert {other.job(job).crash_count for job in jobs} == {1}


async def test_x3_a_runner_that_beats_keeps_its_jobs_for_as_long_as_it_likes(scheduler: Served) -> None:
    async with scheduler.peer().stream() as runner:
        job = await scheduler.submit()
        # Three renewals are a lease.
        await runner.until(lambda: len(runner.renewals) >= 8)

        found = await scheduler.job(job.job_id)
        assert (found.state, found.lease, found.crash_count) == (pb.JOB_STATE_LEASED, 1, 0)


async def test_a_renewal_answers_a_beat_that_was_sent(scheduler: Served) -> None:
    async with scheduler.peer().stream() as runner:
        await runner.until(lambda: len(runner.renewals) >= 3)

        assert runner.renewals == sorted(set(runner.renewals))
        assert runner.renewals[0] == 1
        assert runner.renewals[-1] <= runner._beat


async def test_j6_a_session_that_comes_back_too_late_is_refused_and_its_outcomes_change_nothing(
    scheduler: Served,
) -> None:
    peer = scheduler.peer()
    async with peer.stream() as before:
        job = await scheduler.submit()
        await before.until(lambda: job.job_id in before.jobs)
        assigned = before.job(job.job_id)
    await scheduler.until(job.job_id, pb.JOB_STATE_READY)
    async with peer.stream(held=[assigned]) as late:
        await late.until(lambda: late.over)

        assert late.code is grpc.StatusCode.FAILED_PRECONDITION
    # As a new session it still has nothing to say about the job.
    async with scheduler.peer().stream(credits=0, held=[assigned], outcomes=[ended(assigned)]) as anew:
        await anew.until(lambda: anew.settled)

        assert anew.welcome is not None
        assert [(lost.job_id, lost.lease) for lost in anew.welcome.lost] == [(job.job_id, 1)]
        assert not anew.settled[0].effective
        assert (await scheduler.job(job.job_id)).state == pb.JOB_STATE_READY


async def test_of_two_streams_the_last_speaks_for_the_session(
    postgres_world: PostgresWorld, scheduler: Served, tmp_path: Path
) -> None:
    peer = scheduler.peer()
    async with peer.stream() as first:
        job = await scheduler.submit()
        await first.until(lambda: job.job_id in first.jobs)
        assigned = first.job(job.job_id)
        async with peer.stream(held=[assigned]) as second:
            await first.until(lambda: first.over)
            later = await scheduler.submit()
            await second.until(lambda: later.job_id in second.jobs)

            assert first.code is grpc.StatusCode.FAILED_PRECONDITION
            assert later.job_id not in first.jobs
            assert (await scheduler.job(job.job_id)).lease == 1


async def test_a_runner_gets_no_more_than_its_credits_and_its_capacity(scheduler: Served) -> None:
    jobs = [(await scheduler.submit()).job_id for _ in range(10)]
    async with scheduler.peer(capacity=4).stream(credits=2) as runner:
        await runner.until(lambda: len(runner.jobs) == 2)
        await runner.say(credits=5)
        await runner.until(lambda: len(runner.jobs) == 4)
        await runner.ended(runner.job(runner.jobs[0]))
        await runner.until(lambda: len(runner.jobs) == 5)

        # Seven were granted, four may be held: two more as two more are let go, and no further.
        await runner.ended(*(runner.job(job) for job in runner.jobs[1:5]))
        await runner.until(lambda: len(runner.jobs) == 7)
        await runner.until(lambda: len(runner.settled) == 5)
        assert len(set(runner.jobs)) == 7
        assert set(runner.jobs) <= set(jobs)


async def test_a_drained_runner_gets_nothing_more(scheduler: Served) -> None:
    peer = scheduler.peer()
    async with peer.stream() as runner:
        await scheduler.api.Drain(pb.DrainRequest(session_id=peer.session))
        await runner.until(lambda: runner.drained)
        job = await scheduler.submit()
        async with scheduler.peer().stream() as other:
            await other.until(lambda: job.job_id in other.jobs)

            assert runner.jobs == []
            (draining,) = [
                one
                for one in (await scheduler.api.Runners(pb.RunnersRequest())).runners
                if one.session_id == peer.session
            ]
            assert draining.draining


async def test_draining_an_unknown_session_is_refused(scheduler: Served) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await scheduler.api.Drain(pb.DrainRequest(session_id="nobody"))

    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_drain_through_another_scheduler_reaches_the_runner(
    postgres_world: PostgresWorld, scheduler: Served, tmp_path: Path
) -> None:
    peer = scheduler.peer()
    async with (
        serving_scheduler(postgres_world.dsn, tmp_path) as second,
        peer.stream() as runner,
    ):
        await second.api.Drain(pb.DrainRequest(session_id=peer.session))

        await runner.until(lambda: runner.drained)


async def test_news_about_a_held_job_reach_its_holder(scheduler: Served) -> None:
    async with scheduler.peer().stream() as runner:
        job = await scheduler.submit()
        await runner.until(lambda: job.job_id in runner.jobs)
        await scheduler.api.Wake(pb.WakeRequest(job_id=job.job_id))
        await scheduler.api.Wake(pb.WakeRequest(job_id=job.job_id))
        await scheduler.api.Pause(pb.PauseRequest(job_id=job.job_id))
        await scheduler.api.Cancel(pb.CancelRequest(job_id=job.job_id, reason="enough", actor="ada"))
        await runner.until(lambda: len(runner.notices) >= 4)

        kinds = [notice.kind for notice in runner.notices]
        assert kinds == [pb.Notice.KIND_WAKE, pb.Notice.KIND_WAKE, pb.Notice.KIND_PAUSE, pb.Notice.KIND_CANCEL]
        assert {(notice.job_id, notice.lease) for notice in runner.notices} == {(job.job_id, 1)}


async def test_news_through_another_scheduler_reach_the_holder_once(
    postgres_world: PostgresWorld, scheduler: Served, tmp_path: Path
) -> None:
    async with (
        serving_scheduler(postgres_world.dsn, tmp_path) as second,
        scheduler.peer().stream() as runner,
    ):
        job = await scheduler.submit()
        await runner.until(lambda: job.job_id in runner.jobs)
        await second.api.Cancel(pb.CancelRequest(job_id=job.job_id))
        await runner.until(lambda: len(runner.notices) >= 2)
        seen = len(runner.renewals)
        await runner.until(lambda: len(runner.renewals) >= seen + 4)

        assert sorted(notice.kind for notice in runner.notices) == [pb.Notice.KIND_WAKE, pb.Notice.KIND_CANCEL]


async def test_a_runner_that_speaks_of_a_job_it_no_longer_holds_is_told(
    postgres_world: PostgresWorld, scheduler: Served
) -> None:
    async with scheduler.peer().stream(credits=1) as runner:
        job = await scheduler.submit()
        await runner.until(lambda: job.job_id in runner.jobs)
        await postgres_world.sql("UPDATE scheduler.jobs SET state = 1, session = NULL, lease = lease + 1")
        await runner.say(progressed(runner.job(job.job_id)))
        await runner.until(lambda: bool(runner.notices))

        assert not runner.settled[0].effective
        assert [(notice.kind, notice.lease) for notice in runner.notices] == [(pb.Notice.KIND_LOST, 1)]


async def test_a_cancelled_job_is_given_to_a_runner_with_the_order_and_the_reason(scheduler: Served) -> None:
    async with scheduler.peer().stream() as runner:
        job = await scheduler.submit()
        await runner.until(lambda: job.job_id in runner.jobs)
        await runner.say(parked(runner.job(job.job_id), operator=True), credits=1)
        await scheduler.until(job.job_id, pb.JOB_STATE_PARKED)
        await scheduler.api.Cancel(pb.CancelRequest(job_id=job.job_id, reason="enough", actor="ada"))
        await runner.until(lambda: len(runner.jobs) == 2)
        again = runner.job(job.job_id)
        await runner.ended(again, state=pb.JOB_STATE_CANCELLED)
        final = await scheduler.until(job.job_id, pb.JOB_STATE_CANCELLED)

        assert (again.cancel_requested, again.failure.message) == (True, "enough")
        assert (final.failure.type, final.failure.message) == ("Cancelled", "enough")
        # Once more is as good as once.
        await scheduler.api.Cancel(pb.CancelRequest(job_id=job.job_id, reason="enough"))


async def test_a_scheduler_that_stops_sends_its_runners_on_with_their_leases(
    postgres_world: PostgresWorld, tmp_path: Path
) -> None:
    async with serving_scheduler(postgres_world.dsn, tmp_path, lease_s=3.0) as staying:
        async with serving_scheduler(postgres_world.dsn, tmp_path, lease_s=3.0) as stopping:
            peer = stopping.peer()
            async with peer.stream() as before:
                job = await stopping.submit()
                await before.until(lambda: job.job_id in before.jobs)
                assigned = before.job(job.job_id)
                await stopping.stop()
                await before.until(lambda: before.over)

                assert before.code is grpc.StatusCode.UNAVAILABLE
        # Longer than the grace, which is for runners that are lost; this one is not.
        async with staying.peer(capacity=1).stream(credits=0) as other:
            await other.until(lambda: len(other.renewals) >= 3)
        async with staying.peer(session=peer.session).stream(held=[assigned]) as after:
            await after.ended(assigned)
            await after.until(lambda: after.settled)

            assert after.settled[0].effective


@pytest.mark.parametrize(
    "first",
    [
        pb.WorkRequest(credits=1),
        pb.WorkRequest(hello=pb.Hello(session_id="me", agents=["*"], capacity=1)),
        pb.WorkRequest(hello=pb.Hello(session_id="0199aaaa-0000-7000-8000-000000000000", agents=["*"])),
        pb.WorkRequest(hello=pb.Hello(session_id="0199aaaa-0000-7000-8000-000000000000", capacity=1)),
        pb.WorkRequest(
            hello=pb.Hello(session_id="0199aaaa-0000-7000-8000-000000000000", agents=["*"], capacity=1),
            outcomes=[pb.Outcome(job_id="0199aaaa-0000-7000-8000-000000000000", lease=1)],
        ),
    ],
    ids=["no hello", "no session", "no capacity", "no agents", "an outcome that says nothing"],
)
async def test_a_stream_that_makes_no_sense_is_refused(scheduler: Served, first: pb.WorkRequest) -> None:
    stream = Stream(scheduler.api.Work())
    await stream.call.write(first)
    await stream.listen()

    assert stream.code is grpc.StatusCode.INVALID_ARGUMENT
