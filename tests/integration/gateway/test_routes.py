"""Every route, what it answers and how it refuses."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import aetheris_proto.gateway.v1.gateway_pb2 as pb
import pytest
from aetheris.history import dump, of_commits, parse, read_commit
from aetheris_api.effects import EffectPage
from aetheris_api.health import Health
from aetheris_api.jobs import AcceptedJob, Job, JobPage, StuckPage
from aetheris_api.record import CommitPage, EventPage, Verification
from aetheris_api.runners import AgentList, RunnerPage
from aetheris_api.trace import Trace
from aetheris_gateway.http.render import dumps
from aetheris_journal import events as e
from aetheris_kernel.clock import SystemClock
from aetheris_proto.ledger.v1 import event_pb2, ledger_pb2
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb
from prometheus_client import REGISTRY

pytestmark = pytest.mark.migrated("aetheris_gateway", "aetheris_ledger")

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
MS = timedelta(milliseconds=1)


def history(*, number: bytes = b"1.10") -> list[list[e.Event]]:
    return [
        [e.JobCreated("tester", "default", "default", b'{"message":"hi"}', at=NOW), e.JobLeased(1, "r1", at=NOW)],
        [e.StepCommitted("0", "look_up", b'{"n":1}', number, 1, 12 * MS, at=NOW + 20 * MS)],
        [e.EffectStarted("1", "charge", b'{"n":1}', "key-1", 1, at=NOW + 21 * MS)],
        [
            e.EffectCommitted("1", "key-1", b'"receipt"', 1, 5 * MS, at=NOW + 26 * MS),
            e.JobCompleted(b'{"total":1.10}', at=NOW + 27 * MS),
        ],
    ]


def holds(model, answer) -> None:
    """The answer is what OpenAPI says: no field more, none less, each of its type."""
    assert answer.headers["content-type"] == "application/json"
    value = answer.json()
    assert json.loads(dumps(model.model_validate(value))) == value


async def test_submitting_stores_a_job_and_says_where_to_look(world, http):
    answer = await http.post("/api/agents/default/message", json={"content": "Summarize the top 3 HN stories"})
    [submitted] = world.scheduler.submits
    job = answer.json()["job_id"]

    assert answer.status_code == 202
    holds(AcceptedJob, answer)
    assert answer.json() == {
        "job_id": job,
        "id": job,
        "status": "ready",
        "agent": "default",
        "created": True,
        "hint": "no runner offers agent 'default' now; the job waits until one does",
        "links": {
            "self": f"/api/jobs/{job}",
            "events": f"/api/jobs/{job}/events",
            "trace": f"/api/jobs/{job}/trace",
            "page": f"/api/jobs/{job}/trace/page",
            "stream": f"/api/jobs/{job}/stream",
            "children": f"/api/jobs?parent={job}",
        },
    }
    assert (submitted.tenant, submitted.queue, submitted.job_id) == ("default", "default", job)
    assert submitted.input == b'{"message":"Summarize the top 3 HN stories"}'


async def test_everything_a_submission_can_say_reaches_the_scheduler(world, http):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    body = {
        "input": {"args": [1, "é"], "kwargs": {"deep": [{"x": None}]}},
        "idempotency_key": "order 42",
        "queue": "slow",
        "priority": -7,
        "deadline": "2030-01-31T12:00:00.5+01:00",
    }
    await http.post("/api/agents/my.agent-2/message", json=body, headers={"traceparent": trace})
    await http.post("/api/agents/a/message", json={"message": "x"}, headers={"traceparent": "rubbish"})
    first, second = world.scheduler.submits

    assert json.loads(first.input) == body["input"]
    assert (first.agent, first.idempotency_key, first.queue, first.priority) == ("my.agent-2", "order 42", "slow", -7)
    assert first.deadline.ToDatetime(UTC) == datetime(2030, 1, 31, 11, 0, 0, 500_000, tzinfo=UTC)
    assert (first.traceparent, second.traceparent) == (trace, "")


@pytest.mark.parametrize("where", ["body", "header"])
async def test_one_idempotency_key_is_one_job(world, http, where):
    body = {"message": "x"} | ({"idempotency_key": "k"} if where == "body" else {})
    headers = {"Idempotency-Key": "k"} if where == "header" else {}
    answers = [await http.post("/api/agents/default/message", json=body, headers=headers) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [202, 202]
    assert [answer.json()["created"] for answer in answers] == [True, False]
    assert len({answer.json()["job_id"] for answer in answers}) == 1


async def test_a_job_is_shown_with_its_result_byte_for_byte(world, http):
    job = world.scheduler.add(
        scheduler_pb.JOB_STATE_COMPLETED,
        input=b'{"message":"hi"}',
        result=b'{"total": 1.10, "big": 123456789012345678901}',
    )
    answer = await http.get(f"/api/jobs/{job}")

    assert answer.status_code == 200
    holds(Job, answer)
    assert '"result":{"total": 1.10, "big": 123456789012345678901}' in answer.text
    assert answer.json()["input"] == {"message": "hi"}
    assert answer.json()["status"] == "completed"


async def test_a_failed_job_says_why_and_a_parked_one_what_it_waits_for(world, http):
    failure = event_pb2.Failure(type="CardDeclined", message="no funds", stack="at line 3")
    failed = world.scheduler.add(scheduler_pb.JOB_STATE_FAILED, failure=failure)
    parked = world.scheduler.add(park_reason="signal: approved")
    shown = (await http.get(f"/api/jobs/{failed}")).json()

    assert shown["error"] == {
        "type": "CardDeclined",
        "message": "no funds",
        "retryable": False,
        "stack": "at line 3",
    }
    assert (await http.get(f"/api/jobs/{parked}")).json()["park_reason"] == "signal: approved"


async def test_waiting_for_a_job_ends_with_the_job_or_with_the_time(world, http):
    job = world.scheduler.add(scheduler_pb.JOB_STATE_LEASED)
    early = await http.get(f"/api/jobs/{job}", params={"wait": 0.05})
    waiting = asyncio.create_task(http.get(f"/api/jobs/{job}", params={"wait": 30}))
    await asyncio.wait({waiting}, timeout=0.1)
    assert not waiting.done()
    world.scheduler.finish(job)
    async with asyncio.timeout(15):
        late = await waiting

    assert (early.json()["status"], late.json()["status"]) == ("running", "completed")


async def test_a_list_passes_on_its_filters_and_its_cursor(world, http):
    parent = str(SystemClock().new_id())
    world.scheduler.add()
    answer = await http.get(
        "/api/jobs",
        params={
            "status": ["parked", "running"],
            "agent": "a",
            "queue": "q",
            "parent": parent,
            "limit": 7,
            "cursor": "abc",
        },
    )
    await http.get("/api/jobs")
    asked, plain = world.scheduler.lists

    holds(JobPage, answer)
    assert asked == scheduler_pb.ListRequest(
        tenant="default",
        states=[scheduler_pb.JOB_STATE_PARKED, scheduler_pb.JOB_STATE_LEASED],
        agent="a",
        queue="q",
        parent_job_id=parent,
        page_size=7,
        page_token="abc",
    )
    assert plain == scheduler_pb.ListRequest(tenant="default", page_size=100)


async def test_stop_pause_and_resume_go_to_the_scheduler(world, http):
    job, finished = world.scheduler.add(), world.scheduler.add(scheduler_pb.JOB_STATE_COMPLETED)
    paused = await http.post(f"/api/jobs/{job}/pause")
    resumed = await http.post(f"/api/jobs/{job}/resume", json={})
    stopped = await http.post(f"/api/jobs/{job}/stop", json={"reason": "enough"})
    again = await http.post(f"/api/jobs/{job}/stop")
    late = await http.post(f"/api/jobs/{finished}/stop")
    terminated = await http.post(f"/api/jobs/{job}/terminate", json={"reason": "at once"})
    too_late = await http.post(f"/api/jobs/{finished}/terminate")

    assert [answer.status_code for answer in (paused, resumed, stopped, again, terminated)] == [200] * 5
    assert terminated.json()["terminate_requested"] is True
    assert (too_late.status_code, too_late.json()["error"]["code"]) == (409, "JOB_FINISHED")
    assert (paused.json()["paused"], resumed.json()["paused"]) == (True, False)
    assert stopped.json()["cancel_requested"] is True
    assert (late.status_code, late.json()["error"]["code"]) == (409, "JOB_FINISHED")


async def test_a_job_without_a_commit_has_an_empty_record(world, http):
    job = world.scheduler.add(scheduler_pb.JOB_STATE_READY)
    events, trace, verdict = [await http.get(f"/api/jobs/{job}/{what}") for what in ("events", "trace", "verify")]
    page = await http.get(f"/api/jobs/{job}/trace/page")

    assert events.json() == {"events": [], "next_after": None}
    assert (trace.json()["steps"], trace.json()["complete"]) == ([], True)
    assert (verdict.json()["intact"], verdict.json()["commits"]) == (True, 0)
    assert "Nothing is on record yet" in page.text


async def test_commits_are_what_is_stored_byte_for_byte(world, http):
    job = world.scheduler.add(scheduler_pb.JOB_STATE_COMPLETED)
    await world.append(job, *history())
    told, after = [], 0
    while after is not None:
        page = await http.get(f"/api/jobs/{job}/commits", params={"after": after, "limit": 2})
        holds(CommitPage, page)
        told += page.json()["commits"]
        after = page.json()["next_after"]

    read = of_commits(UUID(job), [read_commit(each) for each in told])
    assert [commit.seq for commit in read.commits] == list(range(1, len(told) + 1))
    assert parse(dump(read), "a file") == read
    assert read.events[0].agent == read.agent


async def test_events_are_decoded_and_paged(world, http):
    job = world.scheduler.add(scheduler_pb.JOB_STATE_COMPLETED)
    await world.append(job, *history())
    whole = await http.get(f"/api/jobs/{job}/events")
    pages, after = [], 0
    while after is not None:
        page = (await http.get(f"/api/jobs/{job}/events", params={"after": after, "limit": 3})).json()
        pages += page["events"]
        after = page["next_after"]

    holds(EventPage, whole)
    assert pages == whole.json()["events"]
    assert [(event["seq"], event["type"]) for event in pages] == [
        (1, "job_created"),
        (1, "job_leased"),
        (2, "step_committed"),
        (3, "effect_started"),
        (4, "effect_committed"),
        (4, "job_completed"),
    ]
    step = pages[2]
    assert re.fullmatch(r"[0-9a-f]{64}", step["hash"])
    assert (step["lease"], step["at"]) == (1, "2026-01-02T03:04:05.698901Z")
    assert step["data"] == {
        "path": "0",
        "name": "look_up",
        "arguments": {"n": 1},
        "result": 1.1,
        "attempt": 1,
        "elapsed": 12.0,
    }
    assert '"result":1.10' in whole.text, "as the agent wrote it"


async def test_a_trace_shows_the_steps_as_seed_snippets_read_them(world, http):
    job = world.scheduler.add(scheduler_pb.JOB_STATE_COMPLETED)
    await world.append(job, *history())
    answer = await http.get(f"/api/jobs/{job}/trace")
    trace = answer.json()

    holds(Trace, answer)
    assert [(step["name"], step["status"], step["duration_ms"], step["outcome"]) for step in trace["steps"]] == [
        ("look_up", "completed", 12.0, "pure"),
        ("charge", "completed", 5.0, "side_effect_committed"),
    ]
    assert trace["steps"][1]["key"] == "key-1"
    assert [lease["runner_id"] for lease in trace["leases"]] == ["r1"]
    assert (trace["events"], trace["complete"]) == (6, True)


async def test_a_chain_is_verified_and_a_cut_off_tail_is_seen(world, http):
    whole = world.scheduler.add(scheduler_pb.JOB_STATE_COMPLETED, result=b"1")
    cut = world.scheduler.add(scheduler_pb.JOB_STATE_COMPLETED)
    gone = world.scheduler.add(scheduler_pb.JOB_STATE_FAILED)
    other = world.scheduler.add(scheduler_pb.JOB_STATE_CANCELLED)
    running = world.scheduler.add(scheduler_pb.JOB_STATE_LEASED)
    commits = history()
    commits[2:] = [[e.JobCompleted(b"1", at=NOW)]]
    for job, written in ((whole, commits), (cut, commits[:2]), (other, commits), (running, commits[:2])):
        await world.append(job, *written)
    verdicts = {job: await http.get(f"/api/jobs/{job}/verify") for job in (whole, cut, gone, other, running)}

    holds(Verification, verdicts[whole])
    assert {job: answer.json()["intact"] for job, answer in verdicts.items()} == {
        whole: True,
        cut: False,
        gone: False,
        other: False,
        running: True,
    }
    assert verdicts[cut].json()["bad_seq"] == 3
    assert "tail is missing" in verdicts[cut].json()["problem"]


async def test_effects_are_listed_by_state(world, http):
    job = world.scheduler.add()
    doubt = [e.EffectInDoubt("1", "key-1", "lost", at=NOW)]
    await world.append(job, *history()[:3])
    await world.append(job, doubt)
    found = await http.get("/api/effects", params={"state": "in_doubt"})
    none = await http.get("/api/effects", params={"state": "committed", "job": job})

    holds(EffectPage, found)
    [effect] = found.json()["effects"]
    assert (effect["key"], effect["tool"], effect["state"], effect["job_id"]) == ("key-1", "charge", "in_doubt", job)
    assert none.json() == {"effects": [], "next_cursor": None}


async def test_the_house_shows_its_runners_agents_and_what_is_stuck(world, http):
    one = scheduler_pb.Runner(session_id="s1", runner_id="r1", agents=["default", "checkout"], capacity=10, held=3)
    two = scheduler_pb.Runner(session_id="s2", runner_id="r2", agents=["checkout"], capacity=5, held=1, draining=True)
    world.scheduler.runners.runners.extend([one, two])
    job = scheduler_pb.Job(job_id=world.scheduler.add(), state=scheduler_pb.JOB_STATE_PARKED)
    world.scheduler.stuck.jobs.append(scheduler_pb.StuckJob(job=job, cause="poisoned", remedy="requeue"))
    runners, agents, stuck = [
        await http.get(path) for path in ("/api/runners", "/api/agents", "/api/observability/stuck")
    ]

    holds(RunnerPage, runners)
    holds(AgentList, agents)
    holds(StuckPage, stuck)
    assert [runner["runner_id"] for runner in runners.json()["runners"]] == ["r1", "r2"]
    assert agents.json()["agents"] == [
        {"id": "checkout", "runners": 2, "capacity": 15, "held": 4},
        {"id": "default", "runners": 1, "capacity": 10, "held": 3},
    ]
    assert stuck.json()["jobs"][0]["remedy"] == "requeue"


async def test_health_says_what_works(empty_world):
    world = empty_world
    await world.start_gateway()
    async with world.http() as http:
        alone = await http.get("/api/health")
        await world.start_scheduler()
        await world.start_ledger()
        async with asyncio.timeout(10):
            while True:
                whole = await http.get("/api/health")
                if whole.json()["status"] == "ok":
                    break
                await asyncio.sleep(0.02)

    holds(Health, alone)
    assert (alone.status_code, alone.json()["status"]) == (200, "degraded")
    assert {name: check["status"] for name, check in alone.json()["checks"].items()} == {
        "database": "ok",
        "scheduler": "down",
        "ledger": "down",
    }
    assert whole.status_code == 200


async def test_grpc_says_the_same(world, http):
    async with world.grpc() as stubs:
        gateway = stubs.gateway
        made = await gateway.Submit(pb.SubmitRequest(agent="tester", message="hi"))
        job = made.job.job_id
        await world.append(job, *history())
        world.scheduler.finish(job, result=b'{"total":1.10}')
        shown = await gateway.GetJob(pb.GetJobRequest(job_id=job))
        listed = await gateway.ListJobs(pb.ListJobsRequest())
        events = await gateway.ReadEvents(pb.ReadEventsRequest(job_id=job, page_size=3))
        watched = [
            commit.seq async for r in gateway.WatchEvents(pb.WatchEventsRequest(job_id=job)) for commit in r.commits
        ]
        trace = await gateway.GetTrace(pb.GetTraceRequest(job_id=job))
        verdict = await gateway.VerifyJob(pb.VerifyJobRequest(job_id=job))
        effects = await gateway.ListEffects(pb.ListEffectsRequest(state=ledger_pb2.EFFECT_STATE_COMMITTED))
        parked = world.scheduler.add()
        paused = await gateway.PauseJob(pb.PauseJobRequest(job_id=parked))
        resumed = await gateway.ResumeJob(pb.ResumeJobRequest(job_id=parked))
        cancelled = await gateway.CancelJob(pb.CancelJobRequest(job_id=parked, reason="enough"))

    assert (made.created, shown.job.job_id, [j.job_id for j in listed.jobs]) == (True, job, [job])
    assert ([commit.seq for commit in events.commits], events.more) == ([1, 2, 3], True)
    assert watched == [1, 2, 3, 4]
    assert [(s.path, s.name, s.kind, s.status, s.outcome, s.attempts) for s in trace.steps] == [
        ("0", "look_up", "step", "completed", "pure", 1),
        ("1", "charge", "effect", "completed", "side_effect_committed", 1),
    ]
    assert (trace.steps[1].result, trace.steps[1].key) == (b'"receipt"', "key-1")
    assert trace.steps[0].elapsed.ToTimedelta() == 12 * MS
    assert (verdict.verdict.intact, verdict.verdict.commits) == (True, 4)
    assert [effect.key for effect in effects.effects] == ["key-1"]
    assert (paused.job.paused, resumed.job.paused, cancelled.job.cancel_requested) == (True, False, True)


async def test_requests_are_counted_by_route_and_not_by_path(world, http):
    def count(route: str, status: str) -> float:
        labels = {"method": "GET", "route": route, "status": status}
        return REGISTRY.get_sample_value("aetheris_gateway_http_requests_total", labels) or 0.0

    def timed(route: str) -> float:
        labels = {"method": "GET", "route": route}
        return REGISTRY.get_sample_value("aetheris_gateway_http_seconds_count", labels) or 0.0

    route = "/api/jobs/{job_id}"
    before = count(route, "200"), count(route, "404"), count("none", "404"), timed(route)
    await http.get(f"/api/jobs/{world.scheduler.add()}")
    await http.get(f"/api/jobs/{SystemClock().new_id()}")
    await http.get("/made/up")
    scraped = await http.get("/metrics")

    assert (count(route, "200"), count(route, "404"), count("none", "404"), timed(route)) == (
        before[0] + 1,
        before[1] + 1,
        before[2] + 1,
        before[3] + 2,
    )
    assert scraped.headers["content-type"].startswith("text/plain")
    assert "aetheris_gateway_http_requests_total" in scraped.text
    assert "/made/up" not in scraped.text


async def test_openapi_describes_every_route_and_the_page_shows_it(world, http):
    spec = (await http.get("/openapi.json")).json()
    page = await http.get("/docs")

    of_a_job = [
        "events",
        "commits",
        "trace",
        "trace/page",
        "verify",
        "stream",
        "signal",
        "message",
        "stop",
        "terminate",
        "pause",
        "resume",
        "requeue",
        "fork",
        "retry",
    ]
    house = [
        "health",
        "agents",
        "runners",
        "effects",
        "deployments",
        "observability/stuck",
        "jobs",
        "agents/{agent_id}/message",
    ]
    assert set(spec["paths"]) == {
        "/metrics",
        *(f"/api/{name}" for name in house),
        "/api/jobs/{job_id}",
        *(f"/api/jobs/{{job_id}}/{rest}" for rest in of_a_job),
        "/approvals",
        "/effects",
        "/api/approvals",
        "/api/approvals/{approval_id}",
        *(f"/api/approvals/{{approval_id}}/{rest}" for rest in ("approve", "reject", "delegate")),
        "/api/tokens/{token}",
        "/api/effects/{key}/resolve",
    }
    for path, operations in spec["paths"].items():
        for operation in operations.values():
            assert operation["responses"]["4XX"]["content"]["application/json"]["schema"]["$ref"].endswith("/Error")
        assert path in page.text
    body = spec["paths"]["/api/jobs/{job_id}/signal"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["correlation_key"]
    assert "http" not in re.sub(r"http://localhost:8080|https?://www.w3.org\S*", "", page.text), (
        "nothing from elsewhere"
    )
