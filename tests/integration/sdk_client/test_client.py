"""The client against the real thing: gateway, scheduler and ledger, with a runner by hand."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from aetheris.client import ApiError, AsyncClient, Client, JobCancelled, JobFailed, JobNotFinished
from aetheris_journal import events as e
from pydantic import BaseModel

from tests.integration.gateway.world import Hand

pytestmark = pytest.mark.migrated("aetheris_gateway", "aetheris_ledger", "aetheris_scheduler")

NOW = datetime(2026, 1, 2, tzinfo=UTC)
STEP = e.StepCommitted("0", "summarize", b"[]", b'"short"', 1, timedelta(milliseconds=12), at=NOW)

# As the site shows it.
SNIPPET = """
from aetheris import Client

client = Client("http://localhost:8080")
job = client.submit(
    agent="default",
    message="Summarize the report",
)
print(job.id, job.status)

trace = client.trace(job.id)
for step in trace.steps:
    print(step.name, step.status, step.duration_ms)
"""


async def run_one(world, hand: Hand, job, *events: e.Event, result: bytes = b'"done"') -> None:
    await world.append(
        job.job_id,
        [
            e.JobCreated(job.agent, "default", "default", job.input, at=NOW),
            e.JobLeased(job.lease, "hand", at=NOW),
            *events,
            e.JobCompleted(result, at=NOW),
        ],
        lease=job.lease,
    )
    await hand.complete(job, result)


async def test_the_snippet_of_the_site_runs(world):
    lines: list[str] = []
    # Between the two halves of it, a runner does the work.
    first, second = SNIPPET.replace("http://localhost:8080", world.url).split("\n\ntrace")
    scope: dict[str, object] = {"print": lambda *words: lines.append(" ".join(map(str, words)))}

    def run(code: str) -> None:
        exec(code, scope)

    async with Hand(world, "default") as hand:
        await asyncio.to_thread(run, first)
        await run_one(world, hand, await hand.take(), STEP)
        await asyncio.to_thread(run, "trace" + second)
    scope["client"].close()  # type: ignore[attr-defined]

    assert lines[0].split()[1] in ("ready", "running")
    assert lines[1:] == ["summarize completed 12.0"]


async def test_a_job_is_submitted_awaited_and_its_result_returned(world, connect):
    async with Hand(world) as hand, connect(world.url) as client:
        job = await client.submit(
            "checkout", input={"args": ["o-1"], "kwargs": {"fast": True}}, queue="slow", priority=3
        )
        taken = await hand.take()
        assert taken.input == b'{"args":["o-1"],"kwargs":{"fast":true}}'
        waiting = asyncio.create_task(client.result(job.id, timeout=20))
        await run_one(world, hand, taken, STEP, result=b'{"total": 3}')
        result = await waiting
        done = await client.get(job.id)
        trace = await client.trace(job.id)
        verdict = await client.verify(job.id)

    assert (job.agent, done.queue, done.priority) == ("checkout", "slow", 3)
    assert result == {"total": 3}
    assert (done.status, done.finished, done.result) == ("completed", True, {"total": 3})
    assert done.finished_at is not None
    assert str(done) == f"{job.id} checkout completed"
    assert [str(step) for step in trace.steps] == ["0 summarize completed 12 ms"]
    assert (verdict.intact, verdict.commits) == (True, 1)


async def test_a_job_that_failed_or_was_cancelled_is_raised_with_its_reason(world, connect):
    async with Hand(world) as hand, connect(world.url) as client:
        failing = await client.submit(message="x")
        await hand.fail(await hand.take(), "CardDeclined", "no funds")
        with pytest.raises(JobFailed, match=r"failed: CardDeclined: no funds") as failed:
            await client.wait(failing.id, timeout=10)
        cancelled = await client.submit(message="y")
        taken = await hand.take()
        assert (await client.cancel(cancelled.id, "enough")).cancel_requested
        await hand.cancelled(taken)
        with pytest.raises(JobCancelled):
            await client.result(cancelled.id, timeout=10)

    assert failed.value.job.error is not None
    assert failed.value.job.error.type == "CardDeclined"


async def test_waiting_gives_up_when_asked_to_and_the_job_goes_on(world, connect):
    async with connect(world.url) as client:
        job = await client.submit(message="x")
        not_before = asyncio.get_running_loop().time() + 0.3
        with pytest.raises(JobNotFinished, match="it continues") as late:
            await client.wait(job.id, timeout=0.3)
        gave_up_at = asyncio.get_running_loop().time()

    assert isinstance(late.value, TimeoutError)
    assert gave_up_at >= not_before
    assert late.value.job.status == "ready"


async def test_one_key_is_one_job(world, connect):
    async with connect(world.url) as client:
        first = await client.submit(message="x", idempotency_key="k")
        second = await client.submit(message="x", idempotency_key="k")
        others = {(await client.submit(message="x")).id for _ in range(2)}
        with pytest.raises(ApiError) as refused:
            await client.submit(message="another", idempotency_key="k")

    assert (first.id, first.created, second.created) == (second.id, True, False)
    assert len(others - {first.id}) == 2
    assert (refused.value.code, refused.value.status) == ("KEY_REUSED", 409)


@dataclass
class Verdict:
    approved: bool
    at: datetime


class Remark(BaseModel):
    text: str


async def test_signals_and_messages_carry_what_json_can(world, connect):
    async with connect(world.url) as client:
        job = await client.submit(message="x")
        first = await client.signal(job.id, "approved", Verdict(True, NOW))
        again = await client.signal(job.id, "approved", None)
        sent = await client.message(job.id, "news", Remark(text="é"))
        with_id = [await client.message(job.id, "news", 1, message_id="m1") for _ in range(2)]
        notes = await world.notes(job.id)

    assert (first.created, again.created, again.signal_id) == (True, False, first.signal_id)
    assert sent.created
    assert [answer.created for answer in with_id] == [True, False]
    assert [note.payload.decode() for note in notes] == [
        '{"approved":true,"at":"2026-01-02T00:00:00Z"}',
        '{"text":"é"}',
        "1",
    ]


async def test_lists_go_on_over_pages(world, monkeypatch, connect):
    monkeypatch.setattr("aetheris.client.calls.PAGE", 2)
    async with connect(world.url) as client, Hand(world, "nobody") as _:
        made = [(await client.submit("a", "x")).id for _ in range(5)]
        found = await client.jobs(agent="a", status=["ready", "parked"])
        three = await client.jobs(limit=3)
        job = await client.submit("b", "x")
        await world.append(job.id, *[[e.ValueRecorded(str(n), e.ValueKind.TIME, b"1", at=NOW)] for n in range(5)])
        events = [event.seq async for event in client.events(job.id)]
        rest = [event.seq async for event in client.events(job.id, after=3)]
        runners, agents = await client.runners(), await client.agents()

    assert [found_job.id for found_job in found] == made[::-1]
    assert [found_job.id for found_job in three] == made[:1:-1]
    assert (events, rest) == ([1, 2, 3, 4, 5], [4, 5])
    assert [runner.agents for runner in runners] == [["nobody"]]
    assert [agent.id for agent in agents] == ["nobody"]


async def test_a_stream_follows_a_job_to_its_end(world, connect):
    async with Hand(world) as hand, connect(world.url) as client:
        job = await client.submit(message="x")
        taken = await hand.take()
        first = [e.JobCreated("default", "default", "default", b"{}", at=NOW), e.JobLeased(1, "hand", at=NOW)]
        await world.append(job.id, first)
        seen: list[str] = []
        async for event in client.stream(job.id):
            seen.append(event.type)
            if event.type == "job_leased":
                await world.append(job.id, [STEP], [e.JobCompleted(b"1", at=NOW)])
        await hand.complete(taken, b"1")
        again = [event.type async for event in client.stream(job.id, after=2)]

    assert seen == ["job_created", "job_leased", "step_committed", "job_completed"]
    assert again == ["job_completed"]


async def test_refusals_say_which_rule_spoke(world, connect):
    async with connect(world.url) as client:
        with pytest.raises(ApiError) as unknown:
            await client.get("01a1fc01-d9c9-7946-96ad-5dacd60e8982")
        with pytest.raises(ApiError) as nonsense:
            await client.get("nonsense")
        with pytest.raises(ApiError):
            await client.get("../../etc/passwd")
        with pytest.raises(ApiError) as missing:
            async for _ in client.stream("01a1fc01-d9c9-7946-96ad-5dacd60e8982"):
                pass

    assert (unknown.value.code, unknown.value.status) == ("NOT_FOUND", 404)
    assert str(unknown.value) == "no such job (NOT_FOUND)"
    assert (nonsense.value.code, nonsense.value.details) == ("INVALID", {"field": "job_id"})
    assert missing.value.code == "NOT_FOUND"


async def test_the_other_calls_are_answered(world, connect):
    async with connect(world.url) as client:
        job = await client.submit(message="x")
        paused, resumed = await client.pause(job.id), await client.resume(job.id)
        health = await client.health()

        assert (paused.paused, resumed.paused) == (True, False)
        assert await client.stuck() == []
        assert await client.effects(state="in_doubt") == []
        assert (health.status, set(health.checks)) == ("ok", {"database", "scheduler", "ledger"})


async def test_threads_share_a_client(world):
    with Client(world.url) as client:
        jobs = await asyncio.gather(*(asyncio.to_thread(client.submit, "default", f"number {n}") for n in range(20)))
        events = await asyncio.to_thread(lambda: list(client.events(jobs[0].id)))

    assert len({job.id for job in jobs}) == 20
    assert events == []


async def test_a_gateway_that_restarts_is_waited_for(world, connect):
    async with Hand(world) as hand, connect(world.url, retry_s=15) as client:
        job = await client.submit(message="x")
        taken = await hand.take()
        waiting = asyncio.create_task(client.result(job.id))
        streaming = asyncio.create_task(collected(client, job.id))
        await asyncio.wait({waiting, streaming}, timeout=0.2)
        await world.stop("gateway")
        await world.start_gateway(http_listen=world.url.removeprefix("http://"))
        await run_one(world, hand, taken)
        async with asyncio.timeout(15):
            result, seen = await waiting, await streaming

    assert result == "done"
    assert seen == ["job_created", "job_leased", "job_completed"]


async def collected(client: AsyncClient, job_id: str) -> list[str]:
    return [event.type async for event in client.stream(job_id)]
