"""The life of jobs through the door, with the real scheduler and ledger behind it and a runner by hand."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from aetheris_api.jobs import Job
from aetheris_journal import events as e
from aetheris_proto.gateway.v1 import signals_pb2 as signals_pb
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb

from .world import Hand, World

pytestmark = pytest.mark.migrated("aetheris_gateway", "aetheris_ledger", "aetheris_scheduler")

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
async def http(real: World):
    async with real.http() as client:
        yield client


async def submit(http: httpx.AsyncClient, agent: str = "checkout", **body: object) -> str:
    answer = await http.post(f"/api/agents/{agent}/message", json={"message": "hi", **body})
    assert answer.status_code == 202, answer.text
    return answer.json()["job_id"]


async def test_a_job_that_waits_for_a_signal_from_beginning_to_end(real, http):
    async with Hand(real, "checkout") as hand:
        job_id = await submit(http)
        job = await hand.take()
        assert (job.job_id, job.input) == (job_id, b'{"message":"hi"}')
        running = (await http.get(f"/api/jobs/{job_id}")).json()
        await real.append(
            job_id,
            [
                e.JobCreated("checkout", "default", "default", job.input, at=NOW),
                e.JobLeased(job.lease, "hand", at=NOW),
                e.JobWaiting("0", e.WaitKind.SIGNAL, "approved", at=NOW),
            ],
            lease=job.lease,
        )
        await hand.park(job, "signal: approved")
        parked = (await http.get(f"/api/jobs/{job_id}")).json()

        said = await http.post(f"/api/jobs/{job_id}/signal", json={"correlation_key": "approved", "payload": "yes"})
        again = await hand.take()
        assert (again.job_id, again.lease) == (job_id, job.lease + 1), "the signal woke it"
        [note] = await real.notes(job_id)
        await real.append(
            job_id,
            [
                e.JobLeased(again.lease, "hand", at=NOW),
                e.WaitCompleted("0", note.payload, source_id=note.note_id, actor=note.actor, at=NOW),
                e.JobCompleted(b'"shipped"', at=NOW + timedelta(seconds=1)),
            ],
            lease=again.lease,
        )
        async with real.grpc() as stubs:
            await stubs.signals.Settle(signals_pb.SettleRequest(job_id=job_id, note_ids=[note.note_id]))
        waiting = asyncio.create_task(http.get(f"/api/jobs/{job_id}", params={"wait": 30}))
        await hand.complete(again, b'"shipped"')
        done = (await waiting).json()
        repeated = await http.post(f"/api/jobs/{job_id}/signal", json={"correlation_key": "approved"})
        late = await http.post(f"/api/jobs/{job_id}/signal", json={"correlation_key": "other"})
        verdict = (await http.get(f"/api/jobs/{job_id}/verify")).json()
        trace = (await http.get(f"/api/jobs/{job_id}/trace")).json()

    assert (running["status"], running["runner_id"]) == ("running", "hand")
    assert (parked["status"], parked["park_reason"]) == ("parked", "signal: approved")
    assert said.status_code == 200
    assert (done["status"], done["result"], done["lease"]) == ("completed", "shipped", 2)
    assert (repeated.status_code, repeated.json()["created"]) == (200, False)
    assert (late.status_code, late.json()["error"]["code"]) == (409, "JOB_FINISHED")
    assert (verdict["intact"], verdict["commits"]) == (True, 2)
    [step] = trace["steps"]
    assert (step["kind"], step["name"], step["status"], step["result"]) == ("wait", "approved", "completed", "yes")
    assert step["waits"][0]["actor"] == "local"
    assert Job.model_validate(done)


async def test_a_signal_to_a_job_that_runs_is_a_notice_to_its_runner(real, http):
    async with Hand(real) as hand:
        job_id = await submit(http)
        job = await hand.take()
        await http.post(f"/api/jobs/{job_id}/signal", json={"correlation_key": "early"})
        notice = await hand.notice()

    assert (notice.job_id, notice.lease) == (job_id, job.lease)
    assert notice.kind == scheduler_pb.Notice.KIND_WAKE


async def test_a_failed_job_shows_its_error(real, http):
    async with Hand(real) as hand:
        job_id = await submit(http)
        await hand.fail(await hand.take(), "CardDeclined", "no funds")
        shown = (await http.get(f"/api/jobs/{job_id}")).json()

    assert (shown["status"], shown["error"]["type"], shown["error"]["message"]) == (
        "failed",
        "CardDeclined",
        "no funds",
    )


async def test_one_key_is_one_job_and_another_request_under_it_a_conflict(real, http):
    first = await submit(http, idempotency_key="k")
    second = await http.post("/api/agents/checkout/message", json={"message": "hi", "idempotency_key": "k"})
    other = await http.post("/api/agents/checkout/message", json={"message": "ho", "idempotency_key": "k"})

    assert (second.status_code, second.json()["job_id"], second.json()["created"]) == (202, first, False)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "KEY_REUSED")


async def test_stopping_a_job_goes_through_its_runner(real, http):
    async with Hand(real) as hand:
        job_id = await submit(http)
        job = await hand.take()
        stopped = (await http.post(f"/api/jobs/{job_id}/stop", json={"reason": "enough"})).json()
        notice = await hand.notice()
        await hand.cancelled(job)
        shown = (await http.get(f"/api/jobs/{job_id}", params={"wait": 5})).json()
        again = await http.post(f"/api/jobs/{job_id}/stop")

    assert (stopped["status"], stopped["cancel_requested"]) == ("running", True)
    assert notice.kind == scheduler_pb.Notice.KIND_CANCEL
    assert shown["status"] == "cancelled"
    assert again.status_code == 200, "cancelling twice is cancelling once"


async def test_a_paused_job_waits_until_it_is_resumed(real, http):
    job_id = await submit(http)
    paused = (await http.post(f"/api/jobs/{job_id}/pause")).json()
    async with Hand(real) as hand:
        await submit(http, "other")
        first = await hand.take()
        resumed = (await http.post(f"/api/jobs/{job_id}/resume")).json()
        second = await hand.take()

    assert (paused["paused"], resumed["paused"]) == (True, False)
    assert (first.agent, second.job_id) == ("other", job_id)


async def test_lists_are_filtered_and_paged(real, http):
    wanted = [(agent, queue) for agent in ("a", "b") for queue in ("default", "slow") for _ in range(3)]
    made = [await submit(http, agent, queue=queue) for agent, queue in wanted]
    pages, cursor = [], ""
    while cursor is not None:
        page = (await http.get("/api/jobs", params={"limit": 5, "cursor": cursor})).json()
        pages.append([job["id"] for job in page["jobs"]])
        cursor = page["next_cursor"]
    of_a = (await http.get("/api/jobs", params={"agent": "a", "queue": "slow"})).json()["jobs"]
    done = (await http.get("/api/jobs", params={"status": ["completed", "failed"]})).json()["jobs"]
    bad = await http.get("/api/jobs", params={"cursor": "made up"})

    assert [job for page in pages for job in page] == list(reversed(made)), "newest first"
    assert [len(page) for page in pages[:2]] == [5, 5]
    assert {job["id"] for job in of_a} == set(made[3:6])
    assert done == []
    assert (bad.status_code, bad.json()["error"]["code"]) == (400, "INVALID")


async def test_runners_and_agents_are_those_that_are_connected(real, http):
    empty = (await http.get("/api/agents")).json()
    async with Hand(real, "checkout", "refund", runner_id="r1", capacity=7):
        runners = (await http.get("/api/runners")).json()["runners"]
        agents = (await http.get("/api/agents")).json()["agents"]

    assert empty == {"agents": []}
    assert [(runner["runner_id"], runner["capacity"], runner["held"]) for runner in runners] == [("r1", 7, 0)]
    assert [agent["id"] for agent in agents] == ["checkout", "refund"]


async def test_stuck_jobs_are_listed_with_a_remedy(empty_world, until):
    world = empty_world
    await world.start_real_scheduler(stuck_after_s=0.05)
    await world.start_ledger()
    await world.start_gateway()
    async with world.http() as http:
        job_id = await submit(http)

        async def listed() -> list[dict[str, object]]:
            return (await http.get("/api/observability/stuck")).json()["jobs"]

        await until(listed)
        [stuck] = await listed()

    assert stuck["job"]["id"] == job_id
    assert stuck["cause"]
    assert stuck["remedy"]


@pytest.mark.timeout(60)
async def test_a_gateway_that_is_killed_between_the_note_and_the_wake_loses_nothing(empty_world, until, tmp_path):
    """A real process and SIGKILL: the sender has its answer, the scheduler was never told."""
    world = empty_world
    await world.start_scheduler()
    job_id = world.scheduler.add()
    hanging = asyncio.Event()

    async def hang(method: str) -> None:
        if method == "Wake":
            hanging.set()
            await asyncio.Event().wait()

    world.scheduler.before = hang
    environment = os.environ | {
        "AETHERIS_LISTEN": world.address("victim"),
        "AETHERIS_HTTP_LISTEN": world.address("victim-http"),
        "AETHERIS_DATABASE_URL": world.dsn,
        "AETHERIS_SCHEDULER_ADDRESS": world.address("scheduler"),
        "AETHERIS_LEDGER_ADDRESS": world.address("ledger"),
        "AETHERIS_LOG_LEVEL": "warning",
    }
    victim = await asyncio.create_subprocess_exec(sys.executable, "-m", "aetheris_gateway", env=environment)
    try:
        async with world.http("victim") as http:
            await until(lambda: answers(http), within_s=20)
            said = await http.post(f"/api/jobs/{job_id}/signal", json={"correlation_key": "approved"})
        async with asyncio.timeout(10):
            await hanging.wait()
    finally:
        victim.send_signal(signal.SIGKILL)
        await victim.wait()
    world.scheduler.before = None
    assert world.scheduler.wakes == []
    await world.start_gateway()
    await until(lambda: world.scheduler.wakes)
    async with world.http() as http:
        again = await http.post(f"/api/jobs/{job_id}/signal", json={"correlation_key": "approved"})

    assert (said.status_code, said.json()["created"]) == (200, True)
    assert again.json() == {"signal_id": said.json()["signal_id"], "created": False}
    assert set(world.scheduler.wakes) == {job_id}
    assert [note.name for note in await world.notes(job_id)] == ["approved"]


async def answers(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/api/health")).status_code == 200
    except httpx.TransportError:
        return False


async def test_a_submission_whose_answer_was_lost_is_the_same_job_on_the_second_try(world):
    """The scheduler stored it and died before it answered; the gateway tries again by itself."""
    world.scheduler.lose_answers = 1
    async with world.http() as http:
        answer = await http.post("/api/agents/a/message", json={"message": "hi"})

    assert (answer.status_code, answer.json()["created"]) == (202, True)
    assert len(world.scheduler.submits) == 2
    assert list(world.scheduler.jobs) == [answer.json()["job_id"]]
