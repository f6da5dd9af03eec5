"""Jobs that wait for people, messages, tokens and time, and what operators do to them: all real processes."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from harness.suite import Suite

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

ENDED = ("completed", "failed", "cancelled")


async def until(holds: Callable[[], Awaitable[bool]], *, within_s: float = 20) -> None:
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110 - what is waited for is in other processes
            await asyncio.sleep(0.02)


async def in_state(api: Any, job_id: str, status: str) -> dict[str, Any]:
    async def there() -> bool:
        return bool((await api.job(job_id))["status"] == status)

    await until(there)
    return dict(await api.job(job_id))


async def approval_of(api: Any, job_id: str) -> str:
    """The id of the question that the job has put before people."""
    found: list[str] = []

    async def asked() -> bool:
        page = (await api.http.get("/api/approvals", params={"job": job_id, "state": ["pending", "expired"]})).json()
        found[:] = [approval["id"] for approval in page["approvals"]]
        return bool(found)

    await until(asked)
    return found[0]


def names(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


async def test_h4_messages_arrive_in_order_and_once_across_the_death_of_the_runner(suite: Suite, api: Any):
    count = 300
    job_id = await api.submit("listens", count)
    for number in range(count):
        body = {"channel": "orders", "message_id": f"m{number}", "payload": number}
        for _ in range(1 + number % 2):  # every second one is sent twice
            assert (await api.post(f"/api/jobs/{job_id}/message", body)).status_code == 200
        if number == count // 2:
            suite.kill("runner-1", signal.SIGKILL)
            await suite.ended("runner-1")
            await suite.start("runner-1")
    job = await api.job(job_id, wait=30)

    assert job["result"] == list(range(count))
    assert await api.intact(job_id)


async def test_h6_a_role_decides_on_edited_arguments_and_the_requester_does_not(api: Any):
    job_id = await api.submit("pays", "edited", 42, actor="carl")
    question = await approval_of(api, job_id)
    own = await api.post(f"/api/approvals/{question}/approve", actor="carl", roles="manager")
    stranger = await api.post(f"/api/approvals/{question}/approve", actor="dora", roles="clerk")
    edited = {"arguments": {"amount": 7}, "comment": "less"}
    yes = await api.post(f"/api/approvals/{question}/approve", edited, actor="ann", roles="manager")
    late = await api.post(f"/api/approvals/{question}/reject", actor="bob", roles="manager")
    job = await api.job(job_id, wait=20)

    assert [own.status_code, stranger.status_code, yes.status_code, late.status_code] == [403, 403, 200, 409]
    assert job["result"] == [True, "ann", [{"path": "/amount", "from": 42, "to": 7}]]
    assert api.told("edited") == ["paid 7"]


async def test_h6_two_yeses_of_two_people_one_of_them_in_anothers_place(api: Any):
    job_id = await api.submit("pays", "quorum", 42, None, 2)
    at = f"/api/approvals/{await approval_of(api, job_id)}"
    first = await api.post(f"{at}/approve", actor="ann", roles="manager")
    again = await api.post(f"{at}/approve", actor="ann", roles="manager")
    handed = await api.post(f"{at}/delegate", {"to": "person:bob"}, actor="eve", roles="manager")
    herself = await api.post(f"{at}/approve", actor="eve", roles="manager")
    open_still = (await api.job(job_id))["status"]
    second = await api.post(f"{at}/approve", actor="bob")
    job = await api.job(job_id, wait=20)

    assert [a.status_code for a in (first, again, handed, herself, second)] == [200, 200, 200, 403, 200]
    assert again.json()["yeses"] == 1
    assert open_still == "parked"
    assert job["result"] == [True, "bob", []]
    assert api.told("quorum") == ["paid 42"]


async def test_h6_a_rejection_that_the_agent_does_not_read_stops_the_job(api: Any):
    job_id = await api.submit("trusts", "trusting")
    question = await approval_of(api, job_id)
    no = await api.post(f"/api/approvals/{question}/reject", {"comment": "never"}, actor="ann")
    job = await api.job(job_id, wait=20)

    assert no.status_code == 200
    assert job["status"] == "failed"
    assert "ApprovalRejected" in job["error"]["type"]
    assert api.told("trusting") == []


async def test_h6_an_expired_approval_takes_no_decision_and_the_job_goes_on_without(api: Any):
    job_id = await api.submit("pays", "expired", 42, "300ms")
    question = await approval_of(api, job_id)
    job = await api.job(job_id, wait=20)
    late = await api.post(f"/api/approvals/{question}/approve", actor="ann", roles="manager")

    assert job["result"] == [False, "", []]
    assert late.status_code == 409
    assert api.told("expired") == []


async def test_h6_of_a_yes_an_expiry_and_a_cancel_at_one_instant_one_wins_and_everybody_is_told_the_truth(api: Any):
    """An approver who got 200 did decide; one who was too late was told so. A cancel ends the job in any case."""
    count = 30

    async def one(number: int) -> tuple[int, dict[str, Any], list[str]]:
        job_id = await api.submit("pays", f"race {number}", 42, "2s")
        question = await approval_of(api, job_id)
        found = (await api.http.get(f"/api/approvals/{question}")).json()
        deadline = datetime.fromisoformat(found["deadline"])
        instant = deadline + timedelta(milliseconds=(number % 15 - 7) * 4)
        while datetime.now(UTC) < instant:  # noqa: ASYNC110 - it is the moment that matters
            await asyncio.sleep(0.001)
        calls = [api.post(f"/api/approvals/{question}/approve", actor="ann", roles="manager")]
        if number % 3 == 0:
            calls.append(api.post(f"/api/jobs/{job_id}/stop"))
        answers = await asyncio.gather(*calls)
        job = await api.job(job_id, wait=20)
        return answers[0].status_code, job, names(await api.events(job_id))

    for number, (status, job, events) in enumerate(await asyncio.gather(*map(one, range(count)))):
        assert status in (200, 409), number
        assert sum(event in ("job_completed", "job_cancelled", "job_failed") for event in events) == 1, number
        assert events.count("wait_completed") <= 1, number
        if job["status"] == "completed":
            assert job["result"][0] is (status == 200), number
            assert api.told(f"race {number}") == (["paid 42"] if status == 200 else []), number
        else:
            assert (job["status"], number % 3) == ("cancelled", 0), number


async def test_a_token_ends_the_wait_once_and_the_same_again_is_a_success(api: Any):
    job_id = await api.submit("orders", "ordering")

    async def given() -> bool:
        return bool(api.told("ordering"))

    await until(given)
    [token] = api.told("ordering")
    answers = [
        await api.post(f"/api/tokens/{token[:-4]}AAAA", {"shipped": 1}),
        await api.post(f"/api/tokens/{token}", {"shipped": 3}),
        await api.post(f"/api/tokens/{token}", {"shipped": 3}),
        await api.post(f"/api/tokens/{token}", {"shipped": 4}),
    ]
    job = await api.job(job_id, wait=20)
    forged = await api.post(f"/api/jobs/{job_id}/signal", {"correlation_key": "awakeable/0", "payload": 1})

    assert [answer.status_code for answer in answers] == [403, 200, 200, 409]
    assert job["result"] == {"shipped": 3}
    assert forged.status_code == 400


async def test_what_a_job_asks_of_a_gateway_that_is_away_is_asked_once_it_is_back(suite: Suite, api: Any):
    """H2: and a signal that was accepted before is not beaten by a deadline."""
    job_id = await api.submit("asks-later")
    assert (await api.post(f"/api/jobs/{job_id}/signal", {"correlation_key": "early", "payload": 7})).status_code == 200
    suite.kill("gateway", signal.SIGKILL)
    await suite.ended("gateway")

    asking_at = time.monotonic() + 1.0

    async def asking() -> bool:
        return time.monotonic() > asking_at

    await until(asking)
    await suite.start("gateway")
    question = await approval_of(api, job_id)
    yes = await api.post(f"/api/approvals/{question}/approve", actor="ann", roles="manager")
    job = await api.job(job_id, wait=20)

    assert yes.status_code == 200
    assert job["result"] == [True, 7]
    assert await api.intact(job_id)


async def test_h7_timers_survive_the_restart_of_everybody_and_a_sleep_of_centuries_is_accepted(suite: Suite, api: Any):
    soon, never = await api.submit("naps", "2s"), await api.submit("naps", "15000w")
    wake_at = datetime.fromisoformat((await in_state(api, soon, "parked"))["wake_at"])
    parked = await in_state(api, never, "parked")
    for member in ("runner-1", "scheduler", "ledger"):
        suite.kill(member, signal.SIGKILL)
        await suite.ended(member)
    for member in ("ledger", "scheduler", "runner-1"):
        await suite.start(member)
    job = await api.job(soon, wait=20)
    still = await api.job(never)

    assert job["result"] == "rested"
    assert datetime.fromisoformat(job["finished_at"]) >= wake_at
    assert datetime.fromisoformat(parked["wake_at"]) > datetime.now(UTC) + timedelta(days=100_000)
    assert (still["status"], still["wake_at"]) == ("parked", parked["wake_at"])


STATES = ["working", "waiting", "branches", "sleeping", "asking", "retrying", "in doubt"]


async def test_j9_cancel_in_every_state_ends_in_the_chain_and_nothing_runs_afterwards(suite: Suite, api: Any):
    """J9: leased, and waiting, parked for an operator, retrying, ready. In a child: with the children."""
    jobs = {where: await api.submit("rests", f"cancel {where}", where) for where in STATES}
    jobs["leased"] = await api.submit("rests", "cancel leased", "working")
    for where, job_id in jobs.items():
        await in_state(api, job_id, "running" if where in ("working", "leased") else "parked")
    # This job while its runner holds it; the others after the runner was stopped, so that another process ends them.
    assert (await api.post(f"/api/jobs/{jobs['leased']}/stop", {"reason": "enough"})).status_code == 200
    await api.job(jobs["leased"], wait=20)
    await suite.stop("runner-1")
    jobs["ready"] = await api.submit("rests", "cancel ready", "waiting")
    for where, job_id in jobs.items():
        if where != "leased":
            assert (await api.post(f"/api/jobs/{job_id}/stop", {"reason": "enough"})).status_code == 200, where
    await suite.start("runner-1")
    ended = {where: (await api.job(job_id, wait=20))["status"] for where, job_id in jobs.items()}

    assert ended == dict.fromkeys(jobs, "cancelled")
    for where, job_id in jobs.items():
        events = names(await api.events(job_id))
        assert events[-1] == "job_cancelled", where
        assert events.count("job_cancelled") == 1, where
        # What was done is taken back, once; and what comes behind is never done.
        assert api.told(f"cancel {where}") == ([] if where == "ready" else ["began", "taken back"]), where
        assert await api.intact(job_id), where


async def test_pause_holds_a_job_in_every_state_and_resume_lets_it_go_on(api: Any):
    states = ["working", "waiting", "sleeping", "asking", "retrying"]
    jobs = {where: await api.submit("goes-on", f"pause {where}", where) for where in states}
    jobs["in doubt"] = await api.submit("rests", "pause in doubt", "in doubt")
    question = await approval_of(api, jobs["asking"])
    for where, job_id in jobs.items():
        if where in ("retrying", "in doubt"):
            await in_state(api, job_id, "parked")
        assert (await api.post(f"/api/jobs/{job_id}/pause")).status_code == 200, where
    assert (await api.post(f"/api/jobs/{jobs['waiting']}/signal", {"correlation_key": "go"})).status_code == 200
    assert (await api.post(f"/api/approvals/{question}/approve", actor="ann", roles="manager")).status_code == 200
    # Longer than any of them takes by itself.
    await api.job(await api.submit("naps", "1500ms"), wait=20)
    held = {where: await api.job(job_id) for where, job_id in jobs.items()}
    for job_id in jobs.values():
        assert (await api.post(f"/api/jobs/{job_id}/resume")).status_code == 200
    done = {where: await api.job(jobs[where], wait=20) for where in states}
    doubtful = await api.job(jobs["in doubt"])

    assert {where: job["status"] in ENDED for where, job in held.items()} == dict.fromkeys(jobs, False)
    assert {where: job["paused"] for where, job in held.items()} == dict.fromkeys(jobs, True)
    assert {where: job["result"] for where, job in done.items()} == dict.fromkeys(states, "done")
    for where in states:
        assert api.told(f"pause {where}") == ["went on"]
    # What waits for an operator still does.
    assert (doubtful["status"], doubtful["paused"]) == ("parked", False)
    assert "in doubt" in doubtful["park_reason"]


async def test_a_deadline_of_the_job_ends_it_wherever_it_stands(api: Any):
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    jobs = {where: await api.submit("rests", f"late {where}", where, deadline=soon) for where in STATES}
    ended = {where: await api.job(job_id, wait=20) for where, job_id in jobs.items()}

    assert {where: job["status"] for where, job in ended.items()} == dict.fromkeys(STATES, "cancelled")
    for where, job_id in jobs.items():
        events = await api.events(job_id)
        assert events[-1]["type"] == "job_cancelled", where
        assert "deadline" in str(events[-1]), where
        assert api.told(f"late {where}") == ["began", "taken back"], where


async def test_j4_a_job_that_waits_is_leased_no_more_often_than_it_is_woken(api: Any):
    job_id = await api.submit("rests", "blocked", "waiting")
    await in_state(api, job_id, "parked")
    for key in ("other", "another"):
        assert (await api.post(f"/api/jobs/{job_id}/signal", {"correlation_key": key})).status_code == 200
    # Others come and go meanwhile.
    await asyncio.gather(*[api.job(await api.submit("naps", "100ms"), wait=20) for _ in range(5)])
    await in_state(api, job_id, "parked")
    events = names(await api.events(job_id))

    assert 1 <= events.count("job_leased") <= 3
    assert api.told("blocked") == ["began"]
    assert (await api.post(f"/api/jobs/{job_id}/stop")).status_code == 200
    await api.job(job_id, wait=20)
