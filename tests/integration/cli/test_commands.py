"""Each command: what it prints, what it says when there is nothing, and how it exits."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from aetheris_journal import events as e

from tests.integration.gateway.world import ENDS_ANY, Hand

pytestmark = [
    pytest.mark.migrated("aetheris_gateway", "aetheris_ledger", "aetheris_scheduler"),
    pytest.mark.timeout(120),
]

NOW = datetime(2026, 1, 2, tzinfo=UTC)
UNKNOWN = "01a1fc01-d9c9-7946-96ad-5dacd60e8982"
EVIL = "\x1b]0;owned\x07\x1b[2J[red]x[/red]\nsecond line"


def record(job, *events: e.Event) -> list[e.Event]:
    created = e.JobCreated(job.agent, "default", "default", job.input, at=NOW)
    return [created, e.JobLeased(job.lease, "hand", at=NOW), *events]


def step(name: str = "summarize") -> e.StepCommitted:
    return e.StepCommitted("0", name, b"[]", b'"short"', 1, timedelta(milliseconds=12), at=NOW)


async def test_submitting_prints_the_job_and_nothing_else(world, aetheris):
    said = await aetheris("submit", "checkout", "order 42", "--key", "k")
    again = await aetheris("submit", "checkout", "order 42", "--key", "k", "--json")
    [job] = json.loads((await aetheris("jobs", "list", "--json")).out)

    assert (said.code, said.out) == (0, job["id"] + "\n")
    assert said.err.startswith("aetheris: no runner offers agent 'checkout' now; the job waits")
    assert json.loads(again.out)["id"] == job["id"]
    assert json.loads(again.out)["created"] is False


async def test_a_submission_may_say_when_to_start(world, aetheris):
    said = await aetheris("submit", "checkout", "order 42", "--start-after", "2099-01-31T12:00:00+01:00", "--json")
    shown = json.loads((await aetheris("jobs", "show", json.loads(said.out)["id"], "--json")).out)
    wrong = await aetheris("submit", "checkout", "order 42", "--start-after", "tomorrow")

    assert datetime.fromisoformat(shown["start_after"]) == datetime(2099, 1, 31, 11, tzinfo=UTC)
    assert (shown["status"], shown["park_reason"]) == ("parked", "not before its time")
    assert wrong.code == 2


async def test_waiting_prints_the_result_or_says_why_there_is_none(world, aetheris):
    async with Hand(world) as hand:
        waiting = asyncio.create_task(aetheris("submit", "default", "hi", "--wait"))
        job = await hand.take()
        await hand.complete(job, b'"Good morning"')
        done = await waiting
        waiting = asyncio.create_task(aetheris("submit", "default", "hi", "--wait", "--json"))
        await hand.complete(await hand.take(), b'{"total":3}')
        as_json = await waiting
        waiting = asyncio.create_task(aetheris("submit", "default", "hi", "--wait"))
        await hand.fail(await hand.take(), "CardDeclined", "no funds")
        failed = await waiting

    assert (done.code, done.out) == (0, "Good morning\n")
    assert json.loads(as_json.out)["result"] == {"total": 3}
    assert (failed.code, failed.out) == (1, "")
    assert failed.err.endswith("failed: CardDeclined: no funds\n")


async def test_jobs_are_listed_and_shown(world, aetheris):
    empty = await aetheris("jobs", "list")
    async with Hand(world, "checkout") as hand:
        job_id = (await aetheris("submit", "checkout", "order 42")).out.strip()
        await hand.park(await hand.take(), "signal: approved")
        listed = await aetheris("jobs", "list", "--status", "parked", "--agent", "checkout")
        none = await aetheris("jobs", "list", "--status", "failed")
        shown = await aetheris("jobs", "show", job_id)
        as_json = await aetheris("jobs", "show", job_id, "--json")
    wrong = await aetheris("jobs", "list", "--status", "bad")

    assert (empty.code, empty.out) == (0, "")
    assert "aetheris submit" in empty.err
    header, row = listed.out.splitlines()
    assert header.split() == ["JOB", "AGENT", "STATUS", "CREATED", "NOTE"]
    assert row.split()[:3] == [job_id, "checkout", "parked"]
    assert row.endswith("signal: approved")
    assert "no job matches" in none.err
    assert "waits for: signal: approved" in shown.out
    assert '"message": "order 42"' in shown.out
    assert json.loads(as_json.out)["park_reason"] == "signal: approved"
    assert (wrong.code, "bad is none of ready" in wrong.err) == (2, True)


async def test_a_trace_is_shown_and_followed(world, aetheris):
    async with Hand(world) as hand:
        job_id = (await aetheris("submit", "default", "hi")).out.strip()
        waiting = await aetheris("trace", job_id)
        job = await hand.take()
        await world.append(job_id, record(job, step()), lease=job.lease)
        following = asyncio.create_task(aetheris("trace", job_id, "--follow"))
        events = asyncio.create_task(aetheris("trace", job_id, "-f", "--json"))
        await asyncio.wait({following, events}, timeout=0.2)
        failure = e.Failure("CardDeclined", "no funds")
        await world.append(job_id, [e.JobFailed(failure, at=NOW)], lease=job.lease)
        await hand.fail(job, "CardDeclined", "no funds")
        followed, lines = await following, await events
        trace = await aetheris("trace", job_id)
        as_json = await aetheris("trace", job_id, "--json")

    assert "waits for a runner that offers default" in waiting.out
    assert [line.split(" ", 2)[2] for line in followed.out.splitlines()] == [
        "job_created default",
        "job_leased hand",
        "step_committed 0 summarize",
        "job_failed CardDeclined: no funds",
    ]
    assert [json.loads(line)["type"] for line in lines.out.splitlines()][-1] == "job_failed"
    assert "0     summarize  step  completed         12 ms" in trace.out
    assert "error: CardDeclined: no funds" in trace.out
    assert json.loads(as_json.out)["steps"][0]["duration_ms"] == 12


async def test_a_takeover_is_told_and_a_wait_is_none(world, aetheris):
    job_id = (await aetheris("submit", "default", "hi")).out.strip()
    created = e.JobCreated("default", "default", "default", b"{}", at=NOW)
    await world.append(job_id, [created, e.JobLeased(1, "r1", at=NOW)])
    await world.append(job_id, [e.JobLeased(2, "r1", at=NOW)], lease=2)
    waited = await aetheris("trace", job_id)
    await world.append(job_id, [e.JobLeased(3, "r2", at=NOW)], lease=3)
    taken = await aetheris("trace", job_id)

    assert "held by" not in waited.out
    assert "held by r1, then r2" in taken.out


@pytest.mark.parametrize(
    ("typed", "payload"),
    [
        ([], b"null"),
        (["yes"], b'"yes"'),
        (["42"], b"42"),
        (['{"by": "ada"}'], b'{"by":"ada"}'),
        (["1.2.3"], b'"1.2.3"'),
    ],
)
async def test_a_signal_says_what_was_typed(world, aetheris, typed, payload):
    job_id = (await aetheris("submit", "default", "hi")).out.strip()
    said = await aetheris("signal", job_id, "approved", *typed)
    again = await aetheris("signal", job_id, "approved", "--json")
    [note] = await world.notes(job_id)

    assert (said.code, said.out) == (0, f"accepted as {note.note_id}\n")
    assert json.loads(again.out) == {"signal_id": note.note_id, "created": False}
    assert note.payload == payload


async def test_what_was_meant_as_json_and_is_none_is_not_sent(world, aetheris):
    job_id = (await aetheris("submit", "default", "hi")).out.strip()
    broken = await aetheris("signal", job_id, "approved", '{"by": ada}')
    number = await aetheris("signal", job_id, "approved", "NaN")

    assert (broken.code, "PAYLOAD is not JSON" in broken.err) == (2, True)
    assert (number.code, "cannot be sent as JSON" in number.err) == (1, True)
    assert await world.notes(job_id) == []


async def test_a_record_is_verified(world, aetheris, tmp_path):
    async with Hand(world) as hand:
        job_id = (await aetheris("submit", "default", "hi")).out.strip()
        job = await hand.take()
        await world.append(job_id, record(job, step(), e.JobCompleted(b"1", at=NOW)), lease=job.lease)
        await hand.complete(job, b"1")
    whole = await aetheris("verify", job_id)
    connection = await asyncpg.connect(world.dsn)
    try:
        await connection.execute("ALTER TABLE ledger.commits DISABLE TRIGGER ALL")
        table = "ledger.commits"
        await connection.execute(f"UPDATE {table} SET body = body || '\\x00'::bytea")
    finally:
        await connection.close()
    broken = await aetheris("verify", job_id)
    as_json = await aetheris("verify", job_id, "--json")
    file = tmp_path / "kept.json"
    exported = await aetheris("export", job_id, "-o", str(file))

    assert (whole.code, whole.out.startswith("intact: 1 commits, 4 events, 0 effects")) == (0, True)
    assert (broken.code, broken.out) == (1, "")
    assert "broken at commit 1" in broken.err
    assert (as_json.code, json.loads(as_json.out)["intact"]) == (1, False)
    assert (exported.code, exported.out, file.exists()) == (1, "", False), "what is broken is not exported"
    assert "commit 1" in exported.err


async def test_the_deployments_are_listed(world, aetheris):
    nothing = await aetheris("deployments")
    async with Hand(world, "default", offers=[{"agent": "default", "version": "v1"}]) as hand:
        await aetheris("submit", "default", "hi")
        job = await hand.take()
        listed = await aetheris("deployments")
        as_json = json.loads((await aetheris("deployments", "--agent", "default", "--json")).out)
        [runner] = json.loads((await aetheris("runners", "--json")).out)
        shown = json.loads((await aetheris("jobs", "show", job.job_id, "--json")).out)

    assert "no runner is connected" in nothing.err
    assert "v1" in listed.out
    assert as_json == [{"agent": "default", "version": "v1", "runners": 1, "open_jobs": 1, "wanted_by_jobs": 0}]
    assert runner["versions"] == {"default": "v1"}
    assert (shown["version"], shown["wants_version"]) == ("v1", None)


async def test_a_job_is_terminated_by_any_runner(world, aetheris):
    job_id = (await aetheris("submit", "retired", "hi")).out.strip()
    async with Hand(world, "other", features=ENDS_ANY) as hand:
        terminated = await aetheris("terminate", job_id, "--reason", "its code is gone", "--json")
        job = await hand.take()
        await hand.cancelled(job)
    late = await aetheris("terminate", job_id)
    unknown = await aetheris("terminate", UNKNOWN)

    shown = json.loads(terminated.out)
    assert (shown["terminate_requested"], shown["cancel_requested"]) == (True, True)
    assert (job.job_id, job.failure.message) == (job_id, "its code is gone")
    assert late.out == f"job {job_id} is cancelled\n"
    assert unknown.code == 1


async def test_jobs_are_paused_resumed_and_cancelled(world, aetheris):
    job_id = (await aetheris("submit", "default", "hi")).out.strip()
    paused = await aetheris("pause", job_id)
    resumed = await aetheris("resume", job_id)
    async with Hand(world) as hand:
        job = await hand.take()
        cancelled = await aetheris("cancel", job_id, "--reason", "enough", "--json")
        await hand.cancelled(job)
    late = await aetheris("cancel", job_id)
    too_late = await aetheris("pause", job_id)

    assert "aetheris resume" in paused.out
    assert resumed.out == f"job {job_id} goes on\n"
    assert json.loads(cancelled.out)["cancel_requested"] is True
    assert late.out == f"job {job_id} is cancelled\n"
    assert too_late.code == 1


async def test_runners_are_listed(world, aetheris):
    nobody = await aetheris("runners")
    async with Hand(world, "checkout", "refund", runner_id="r1", capacity=7):
        somebody = await aetheris("runners")
        as_json = await aetheris("runners", "--json")

    assert "aetheris run agent.py" in nobody.err
    assert somebody.out.splitlines()[1].split() == ["r1", "checkout,", "refund", "0/7", "working"]
    assert json.loads(as_json.out)[0]["agents"] == ["checkout", "refund"]


async def test_what_a_job_says_cannot_reach_into_the_terminal(world, aetheris):
    async with Hand(world) as hand:
        job_id = (await aetheris("submit", "default", EVIL)).out.strip()
        job = await hand.take()
        await world.append(job_id, record(job, step(EVIL)), lease=job.lease)
        await hand.fail(job, EVIL, EVIL)
        said = [
            await aetheris("trace", job_id),
            await aetheris("jobs", "list"),
            await aetheris("jobs", "show", job_id),
            await aetheris("submit", "default", EVIL, "--key", EVIL),
            await aetheris("signal", EVIL, "x"),
        ]

    for each in said:
        assert not {"\x1b", "\x07"} & set(each.out + each.err)
    assert "[red]x[/red]" in said[0].out, "and markup is no markup"


@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs", "show"), ("trace",), ("verify",), ("cancel",), ("terminate",), ("pause",), ("resume",),
        ("trace", "--follow"),
    ],
)  # fmt: skip
async def test_a_job_that_is_not_there_is_one_clear_line(world, aetheris, arguments):
    said = await aetheris(*arguments, UNKNOWN)

    assert (said.code, said.out) == (1, "")
    assert said.err == "aetheris: no such job; `aetheris jobs list` lists the jobs\n"
