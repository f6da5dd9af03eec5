"""The API as its contract says, refusals included."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from aetheris_chassis.status import refusal_from
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb
from aetheris_scheduler.core.page import to_token
from aetheris_scheduler.loops import waiters

from .conftest import PostgresWorld, Served, eventually, serving_scheduler
from .peer import ended, parked, submission

UNKNOWN = "0199aaaa-0000-7000-8000-000000000000"


async def refused(call: Any) -> tuple[grpc.StatusCode, str, dict[str, object]]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    refusal = refusal_from(error.value)
    return error.value.code(), refusal.reason, refusal.facts


SURROGATE = to_token("\ud800", UNKNOWN)
WRONG = {
    "no tenant": {"tenant": ""},
    "a tenant with a slash": {"tenant": "a/b"},
    "a long tenant": {"tenant": "a" * 129},
    "an agent with a blank": {"agent": "a b"},
    "an agent with a line break": {"agent": "a\n"},
    "a queue in Cyrillic": {"queue": "очередь"},
    "input that is no JSON": {"input": b"{"},
    "input that is no object": {"input": b"[]"},
    "no input": {"input": b""},
    "input that is too large": {"input": b'{"a": "' + b"x" * 1024 * 1024 + b'"}'},
    "input that is too deep": {"input": b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"},
    "a long key": {"idempotency_key": "k" * 257},
    "a key with a NUL": {"idempotency_key": "k\0"},
    "too urgent": {"priority": 101},
    "far too urgent": {"priority": 2**31 - 1},
    "an id that is none": {"job_id": "me"},
    "an id of another version": {"job_id": "0199aaaa-0000-4000-8000-000000000000"},
    "a parent that is none": {"parent_job_id": "'; DROP TABLE jobs"},
    "a deadline before time": {"deadline": {"seconds": -5}},
    "a start that is no moment": {"start_after": {"seconds": 5, "nanos": 2_000_000_000}},
}


@pytest.mark.parametrize("fields", WRONG.values(), ids=WRONG.keys())
async def test_u3_a_submission_that_is_wrong_is_refused_and_nothing_is_stored(
    scheduler: Served, fields: dict[str, Any]
) -> None:
    code, reason, facts = await refused(scheduler.api.Submit(submission(**fields)))

    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID")
    assert facts["field"] in fields or facts["field"] == "job_id"
    assert not (await scheduler.api.List(pb.ListRequest(tenant="acme"))).jobs


async def test_a_batch_is_answered_one_by_one_in_its_order(scheduler: Served) -> None:
    requests = [
        submission(idempotency_key="k"),
        submission(input=b"nonsense"),
        submission(idempotency_key="k", input=b'{"args": [1]}'),
        submission(idempotency_key="k"),
        *(submission(priority=n % 5) for n in range(600)),
    ]
    results = (await scheduler.api.SubmitBatch(pb.SubmitBatchRequest(requests=requests))).results

    assert len(results) == len(requests)
    assert [result.WhichOneof("outcome") for result in results[:4]] == ["accepted", "refused", "refused", "accepted"]
    assert [result.refused.reason for result in results[1:3]] == ["INVALID", "KEY_REUSED"]
    assert results[0].accepted.created
    assert not results[3].accepted.created
    assert results[3].accepted.job.job_id == results[0].accepted.job.job_id
    assert [result.accepted.job.priority for result in results[4:]] == [n % 5 for n in range(600)]
    assert not results[0].accepted.job.input
    assert not (await scheduler.api.SubmitBatch(pb.SubmitBatchRequest())).results


async def test_a_batch_beyond_its_bounds_is_refused(scheduler: Served) -> None:
    many = pb.SubmitBatchRequest(requests=[submission()] * 1_001)
    heavy = pb.SubmitBatchRequest(requests=[submission(input=b'{"a": "' + b"x" * 1_000_000 + b'"}')] * 5)

    for batch in (many, heavy):
        code, reason, _ = await refused(scheduler.api.SubmitBatch(batch))
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID")


async def test_a_reused_key_and_a_full_queue_say_which_rule_spoke(
    postgres_world: PostgresWorld, tmp_path: Path
) -> None:
    async with serving_scheduler(postgres_world.dsn, tmp_path, queue_ready_max=1) as scheduler:
        first = await scheduler.submit(idempotency_key="k")
        reused = await refused(scheduler.api.Submit(submission(idempotency_key="k", input=b'{"args": [1]}')))
        full = await refused(scheduler.api.Submit(submission()))

        assert reused == (grpc.StatusCode.FAILED_PRECONDITION, "KEY_REUSED", {"job_id": first.job_id})
        assert full[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "EXHAUSTED")
        assert float(str(full[2]["retry_after_s"])) > 0


@pytest.mark.parametrize("job_id", [UNKNOWN, "nobody", "", "\0", "' OR 1=1 --"])
async def test_orders_about_an_unknown_job_are_refused(scheduler: Served, job_id: str) -> None:
    for call in (
        scheduler.api.Wake(pb.WakeRequest(job_id=job_id)),
        scheduler.api.Cancel(pb.CancelRequest(job_id=job_id)),
        scheduler.api.Pause(pb.PauseRequest(job_id=job_id)),
        scheduler.api.Resume(pb.ResumeRequest(job_id=job_id)),
        scheduler.api.Requeue(pb.RequeueRequest(job_id=job_id)),
        scheduler.api.Get(pb.GetRequest(job_id=job_id)),
        scheduler.api.Get(pb.GetRequest(job_id=job_id, wait=timedelta(seconds=5))),
    ):
        code, reason, _ = await refused(call)
        assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


async def test_orders_about_a_finished_job(scheduler: Served) -> None:
    async with scheduler.peer().stream() as runner:
        job = await scheduler.submit()
        await runner.until(lambda: job.job_id in runner.jobs)
        await runner.ended(runner.job(job.job_id))
        await scheduler.until(job.job_id, pb.JOB_STATE_COMPLETED)
    woken = await scheduler.api.Wake(pb.WakeRequest(job_id=job.job_id))

    assert woken.state == pb.JOB_STATE_COMPLETED
    for call in (
        scheduler.api.Cancel(pb.CancelRequest(job_id=job.job_id)),
        scheduler.api.Pause(pb.PauseRequest(job_id=job.job_id)),
        scheduler.api.Resume(pb.ResumeRequest(job_id=job.job_id)),
    ):
        assert (await refused(call))[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "JOB_FINISHED")
    requeued = await refused(scheduler.api.Requeue(pb.RequeueRequest(job_id=job.job_id)))
    assert requeued[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "CONFLICT")


async def test_pause_resume_and_requeue_show_the_job(scheduler: Served) -> None:
    job = await scheduler.submit()
    paused = (await scheduler.api.Pause(pb.PauseRequest(job_id=job.job_id, actor="ada"))).job
    async with scheduler.peer().stream(credits=1) as runner:
        resumed = (await scheduler.api.Resume(pb.ResumeRequest(job_id=job.job_id))).job
        await runner.until(lambda: job.job_id in runner.jobs)
        await runner.say(parked(runner.job(job.job_id), "in doubt", operator=True))
        await scheduler.until(job.job_id, pb.JOB_STATE_PARKED)
        requeued = (await scheduler.api.Requeue(pb.RequeueRequest(job_id=job.job_id))).job

    assert (paused.paused, resumed.paused) == (True, False)
    assert requeued.state == pb.JOB_STATE_READY


@pytest.mark.parametrize("asked", ["the scheduler at which it ends", "another"])
async def test_get_with_wait_answers_when_the_job_has_ended(
    postgres_world: PostgresWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """The scheduler at which it ends does not look for it: its own tick tells the callers that wait there."""
    if asked != "another":
        monkeypatch.setattr(waiters, "POLL_S", 3600.0)
    async with (
        serving_scheduler(postgres_world.dsn, tmp_path) as here,
        serving_scheduler(postgres_world.dsn, tmp_path) as there,
        here.peer().stream() as runner,
    ):
        waiter = there if asked == "another" else here
        job = await here.submit()
        await runner.until(lambda: job.job_id in runner.jobs)
        request = pb.GetRequest(job_id=job.job_id, wait=timedelta(seconds=60))
        waiting = [asyncio.ensure_future(waiter.api.Get(request)) for _ in range(20)]
        # They have asked before this does.
        await waiter.job(job.job_id)
        await runner.ended(runner.job(job.job_id), credits=1)
        answers = await asyncio.gather(*waiting)

    assert {(answer.job.state, answer.job.result) for answer in answers} == {(pb.JOB_STATE_COMPLETED, b'"done"')}


async def test_get_with_wait_answers_when_the_time_is_over(scheduler: Served) -> None:
    job = await scheduler.submit()
    moment = datetime.now(UTC) + timedelta(seconds=0.2)
    answer = await scheduler.api.Get(pb.GetRequest(job_id=job.job_id, wait=timedelta(seconds=0.2)))

    assert answer.job.state == pb.JOB_STATE_READY
    assert datetime.now(UTC) >= moment


async def test_a_waiting_caller_is_answered_before_the_scheduler_stops(scheduler: Served) -> None:
    job = await scheduler.submit()
    waiting = asyncio.ensure_future(scheduler.api.Get(pb.GetRequest(job_id=job.job_id, wait=timedelta(seconds=50))))
    await scheduler.job(job.job_id)
    await scheduler.stop()

    assert (await waiting).job.state == pb.JOB_STATE_READY


async def test_lists_go_from_page_to_page(scheduler: Served) -> None:
    made = [(await scheduler.submit()).job_id for _ in range(5)]
    seen: list[str] = []
    token = ""
    while True:
        page = await scheduler.api.List(pb.ListRequest(tenant="acme", page_size=2, page_token=token))
        seen += [job.job_id for job in page.jobs]
        token = page.next_page_token
        if not token:
            break

    assert seen == made[::-1]


@pytest.mark.parametrize("token", ["x", "bm9uc2Vuc2U=", "W10=", "WyJ4Il0=", "WyJ4IiwgIngiXQ==", SURROGATE, "\u2603"])
async def test_a_page_token_that_is_not_ours_is_refused(scheduler: Served, token: str) -> None:
    for call in (
        scheduler.api.List(pb.ListRequest(tenant="acme", page_token=token)),
        scheduler.api.Stuck(pb.StuckRequest(tenant="acme", page_token=token)),
        scheduler.api.Runners(pb.RunnersRequest(page_token=token)),
    ):
        code, _, facts = await refused(call)
        assert (code, facts["field"]) == (grpc.StatusCode.INVALID_ARGUMENT, "page_token")


async def test_a_list_is_of_one_tenant_and_of_states_there_are(scheduler: Served) -> None:
    for call in (
        scheduler.api.List(pb.ListRequest()),
        scheduler.api.List(pb.ListRequest(tenant="acme", states=[0])),
        scheduler.api.List(pb.ListRequest(tenant="acme", states=[77])),  # type: ignore[list-item]
        scheduler.api.List(pb.ListRequest(tenant="a\0")),
        scheduler.api.List(pb.ListRequest(tenant="acme", parent_job_id="x")),
        scheduler.api.Stuck(pb.StuckRequest()),
    ):
        assert (await refused(call))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_stuck_jobs_come_with_a_remedy(postgres_world: PostgresWorld, tmp_path: Path) -> None:
    async with serving_scheduler(postgres_world.dsn, tmp_path, stuck_after_s=0.01) as scheduler:
        job = await scheduler.submit(agent="nobody-home")

        async def found() -> pb.StuckResponse | None:
            page: pb.StuckResponse = await scheduler.api.Stuck(pb.StuckRequest(tenant="acme", page_size=1))
            return page if page.jobs else None

        first = await eventually(found)
        rest = await scheduler.api.Stuck(pb.StuckRequest(tenant="acme", page_size=1, page_token=first.next_page_token))

        assert [(one.job.job_id, one.cause) for one in first.jobs] == [(job.job_id, "no runner takes it")]
        assert "nobody-home" in first.jobs[0].remedy
        assert first.jobs[0].since_time == job.create_time
        assert not rest.jobs
        assert not (await scheduler.api.Stuck(pb.StuckRequest(tenant="other"))).jobs


async def test_a_job_shows_what_it_was_submitted_with(scheduler: Served) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    parent = await scheduler.submit()
    fields = {
        "queue": "slow",
        "priority": -7,
        "idempotency_key": "invoice 42 ☃",
        "parent_job_id": parent.job_id,
        "deadline": soon,
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "job_id": "0199aaaa-0000-7000-8000-00000000abcd",
    }
    job = await scheduler.job((await scheduler.submit(**fields)).job_id)

    assert {name: getattr(job, name) for name in fields if name != "deadline"} == {
        name: value for name, value in fields.items() if name != "deadline"
    }
    assert job.deadline.ToDatetime(tzinfo=UTC) == soon
    assert (job.tenant, job.agent, job.input, job.lease) == ("acme", "greeter", b'{"args": []}', 0)
    assert not job.HasField("start_time")
    assert not job.HasField("finish_time")
    assert not job.HasField("failure")
    assert abs(job.create_time.ToDatetime(tzinfo=UTC) - datetime.now(UTC)) < timedelta(minutes=1)


async def test_hostile_outcomes_harm_no_other_job(scheduler: Served) -> None:
    async with scheduler.peer().stream() as runner:
        job, other = await scheduler.submit(), await scheduler.submit()
        await runner.until(lambda: len(runner.jobs) == 2)
        mine = runner.job(job.job_id)
        await runner.say(
            pb.Outcome(job_id=UNKNOWN, lease=2**64 - 1, ended=pb.Ended(state=pb.JOB_STATE_COMPLETED)),
            pb.Outcome(job_id=str(uuid4()), lease=0, progressed=pb.Progressed()),
            parked(mine, "no\0way " * 1_000, wake_time={"seconds": 2**60}),
            ended(runner.job(other.job_id)),
        )
        await runner.until(lambda: len(runner.settled) == 4)
        found = await scheduler.job(job.job_id)

        assert {settled.job_id for settled in runner.settled if settled.effective} == {job.job_id, other.job_id}
        assert found.park_reason.startswith("no\ufffdway")
        assert len(found.park_reason) == 1_024
        assert found.wake_time.ToDatetime().year == 9999
