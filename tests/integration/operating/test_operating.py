"""What operators do to real jobs: end doubts in three ways and over three doors, requeue, fork."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from aetheris.client import ApiError, AsyncClient, JobCancelled, JobFailed
from aetheris_chassis.client import open_channel
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.gateway.v1 import gateway_pb2_grpc

from harness.suite import Launch, Suite

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

AGENTS = Path(__file__).parent / "agents.py"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def suite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Suite]:
    folder = tmp_path_factory.mktemp("operating")
    environment = {"runner": {"OPERATING_FOLDER": str(folder)}}
    async with Suite(folder, runners=1, agents=[AGENTS], environment=environment) as suite:
        yield suite


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(suite: Suite) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(suite.http) as client:
        yield client


def calls(suite: Suite, what: str) -> int:
    file = suite.folder / "calls.txt"
    return file.read_text().splitlines().count(what) if file.exists() else 0


async def until(found: Callable[[], Awaitable[list]]) -> list:
    async with asyncio.timeout(20):
        while not (there := await found()):  # noqa: ASYNC110 - what is waited for is in other processes
            await asyncio.sleep(0.02)
    return there


async def aetheris(suite: Suite, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "aetheris.cli", *arguments, env=os.environ | {"AETHERIS_URL": suite.http},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def doubtful(client: AsyncClient, name: str) -> tuple[str, str]:
    """A job whose tool has left a doubt, and the effect's key."""
    job = await client.submit("unsure", input={"args": [name]})
    [effect] = await until(lambda: client.effects(state="in_doubt", job_id=job.id))
    await until(lambda: parked(client, job.id))
    return job.id, effect.key


async def parked(client: AsyncClient, job_id: str) -> list:
    job = await client.get(job_id)
    return [job] if job.status == "parked" else []


async def test_e4_a_person_says_over_rest_that_it_happened(suite: Suite, client: AsyncClient):
    job, key = await doubtful(client, "rest")
    [stuck] = [found for found in await client.stuck() if found.job.id == job]
    await client.resolve(key, "committed", "receipt 7", note="asked the bank")
    done = await client.wait(job, 20)
    [step] = (await client.trace(job)).steps

    assert "in doubt" in stuck.job.park_reason
    assert done.result == "receipt 7"
    assert calls(suite, "stumble rest") == 1
    assert (step.doubts[0].verdict, step.doubts[0].actor, step.doubts[0].note) == (
        "committed", "local", "asked the bank",
    )  # fmt: skip


async def test_e4_a_person_says_on_the_command_line_that_it_did_not_happen(suite: Suite, client: AsyncClient):
    job, key = await doubtful(client, "cli")
    assert key in await aetheris(suite, "effects", "--state", "in_doubt")
    await aetheris(suite, "effects", "resolve", key, "--not-executed", "--as", "ann")
    done = await client.wait(job, 20)

    assert done.result == "done"
    assert calls(suite, "stumble cli") == 2
    assert (await client.verify(job)).intact


async def test_e4_a_person_abandons_a_doubt_over_grpc(suite: Suite, client: AsyncClient):
    job, key = await doubtful(client, "grpc")
    async with open_channel(suite.gateway) as channel:
        order = pb.ResolveEffectRequest(key=key, verdict="VERDICT_ABANDONED", note="the books are lost")
        await gateway_pb2_grpc.GatewayStub(channel).ResolveEffect(order)
    with pytest.raises(JobFailed) as failed:
        await client.wait(job, 20)

    assert failed.value.job.error is not None
    assert failed.value.job.error.type == "aetheris.errors:EffectAbandoned"
    assert calls(suite, "stumble grpc") == 1


async def test_j8_a_requeued_job_that_needs_a_verdict_waits_again(suite: Suite, client: AsyncClient):
    job, key = await doubtful(client, "j8")
    before = (await client.get(job)).lease
    await client.requeue(job)
    await until(lambda: leased_since(client, job, before))
    await until(lambda: parked(client, job))
    await client.resolve(key, "not_executed")

    assert (await client.wait(job, 20)).result == "done"
    with pytest.raises(ApiError):
        await client.requeue(job)


async def leased_since(client: AsyncClient, job_id: str, lease: int) -> list:
    job = await client.get(job_id)
    return [job] if job.lease > lease else []


async def test_a_fork_of_a_finished_job_does_with_its_effects_as_it_is_told(suite: Suite, client: AsyncClient):
    job = await client.submit("letters", input={"args": ["finished"]})
    await client.signal(job.id, "go", "on")
    source = await client.result(job.id, 20)
    reused = await client.result((await client.fork(job.id, before="2")).id, 20)
    blocked = await client.result((await client.fork(job.id, before="2", effects="block")).id, 20)
    asking = await client.fork(job.id, before="2", effects="ask")
    [question] = await until(lambda: client.approvals(job_id=asking.id))
    await client.approve(question.id)
    asked = await client.result(asking.id, 20)
    whole = json.loads(await aetheris(suite, "fork", job.id, "--json"))["id"]
    copied = await client.result(whole, 20)

    assert source == ["receipt 1", "on", "letter 1"] == reused == copied
    assert blocked == ["receipt 1", "on", "blocked"]
    assert (question.approver, question.detail["tool"]) == ("operator", "mail")
    assert asked == ["receipt 1", "on", "letter 2"]
    assert (calls(suite, "pay finished"), calls(suite, "mail finished")) == (1, 2)
    for each in (job.id, whole, asking.id):
        assert (await client.verify(each)).intact
    assert (await client.get(whole)).fork.job_id == job.id


async def test_a_fork_of_a_job_that_goes_on_shares_what_was_done_and_nothing_else(suite: Suite, client: AsyncClient):
    job = await client.submit("letters", input={"args": ["going"]})
    await until(lambda: parked(client, job.id))
    fork = await client.fork(job.id)
    await until(lambda: parked(client, fork.id))
    await client.signal(fork.id, "go", "fork")
    await client.signal(job.id, "go", "source")
    results = [await client.result(each, 20) for each in (fork.id, job.id)]

    assert [result[:2] for result in results] == [["receipt 1", "fork"], ["receipt 1", "source"]]
    assert sorted(result[2] for result in results) == ["letter 1", "letter 2"]
    assert (calls(suite, "pay going"), calls(suite, "mail going")) == (1, 2)


async def test_a_failed_job_is_retried_as_a_fork_from_before_the_step_that_failed(suite: Suite, client: AsyncClient):
    job = await client.submit("shaky", input={"args": ["retried"]})
    with pytest.raises(JobFailed):
        await client.wait(job.id, 20)
    (suite.folder / "mended").touch()
    fork = (await aetheris(suite, "retry", job.id)).strip()
    again = await client.retry(job.id)
    done = await client.wait(fork, 20)

    assert again.id == fork != job.id
    assert done.result == ["receipt 1", "mended"]
    assert done.fork is not None
    assert (done.fork.job_id, (await client.get(job.id)).retried_as_job_id) == (job.id, fork)
    assert calls(suite, "pay retried") == 1


async def test_a_parked_job_is_retried_under_its_id(suite: Suite, client: AsyncClient):
    job, _ = await doubtful(client, "retry")
    retried = await client.retry(job)
    await until(lambda: parked(client, job))
    with pytest.raises(ApiError, match="only a parked or a failed job"):
        # No runner offers its agent, so this one is ready and stays so.
        await client.retry((await client.submit("nothing-here", input={"args": ["ready"]})).id)

    assert retried.id == job


async def test_a10_a_misspelt_agents_job_is_ended_by_a_cancel(client: AsyncClient):
    job = await client.submit("letter", input={"args": ["misspelt"]})
    await client.cancel(job.id, "a typing error")
    with pytest.raises(JobCancelled):
        await client.wait(job.id, 10)

    assert (await client.verify(job.id)).intact
    assert [event.type async for event in client.events(job.id)][-1] == "job_cancelled"


async def test_a10_a_misspelt_agents_job_is_ended_by_its_deadline(client: AsyncClient):
    soon = datetime.now(UTC) + timedelta(seconds=1)
    job = await client.submit("letter", input={"args": ["late"]}, deadline=soon)
    with pytest.raises(JobCancelled) as cancelled:
        await client.wait(job.id, 10)

    assert cancelled.value.job.error is not None
    assert cancelled.value.job.error.message == "deadline"


async def test_d6_a_job_whose_tool_hangs_is_terminated_and_its_effect_is_in_doubt(suite: Suite, client: AsyncClient):
    job = await client.submit("hangs", input={"args": ["hopeless"]})
    await until(lambda: begun(suite, "hang hopeless"))
    await client.terminate(job.id, "it hangs")
    with pytest.raises(JobCancelled) as cancelled:
        await client.wait(job.id, 20)
    [doubt] = await until(lambda: client.effects(state="in_doubt", job_id=job.id))

    assert cancelled.value.job.error is not None
    assert cancelled.value.job.error.message == "it hangs"
    assert doubt.tool == "hang"
    assert calls(suite, "unpay hopeless") == 0
    assert (await client.verify(job.id)).intact


async def begun(suite: Suite, what: str) -> list:
    return [what] * calls(suite, what)


async def test_d6_a_retired_agents_jobs_end_by_a_cancel_or_say_what_they_owe_and_are_terminated(
    suite: Suite, client: AsyncClient
):
    free, owing = [(await client.submit("retired", input={"args": [name, buys]})).id
                   for name, buys in (("free", False), ("owing", True))]  # fmt: skip
    for job in (free, owing):
        await until(lambda job=job: parked(client, job))
    (suite.folder / "retired").touch()
    [runner] = suite.runners
    await suite.restart(runner)
    for job in (free, owing):
        await client.cancel(job)
    with pytest.raises(JobCancelled):
        await client.wait(free, 10)
    [stuck] = await until(lambda: stuck_as(client, owing))
    await client.terminate(owing, "refunded by hand")
    with pytest.raises(JobCancelled):
        await client.wait(owing, 10)

    assert stuck.cause == "cannot be compensated", stuck
    assert calls(suite, "buy owing") == 1
    assert calls(suite, "unpay owing") == 0
    assert all([(await client.verify(job)).intact for job in (free, owing)])


async def stuck_as(client: AsyncClient, job_id: str) -> list:
    return [found for found in await client.stuck() if found.job.id == job_id]


async def test_d4_two_versions_side_by_side_each_goes_on_with_its_own_jobs(suite: Suite, client: AsyncClient):
    """And a job whose version is gone waits for it, is not failed, and goes on when it is back."""
    [first] = suite.runners
    jobs = [(await client.submit("versioned", input={})).id for _ in range(6)]
    for job in jobs:
        await until(lambda job=job: parked(client, job))
    second = await suite.start_runner(Launch({"OPERATING_VERSION": "v2"}))
    for job in jobs[:4]:
        await client.signal(job, "go", 1)
    done = [await client.wait(job, 20) for job in jobs[:4]]
    listed = {each.version: each for each in await client.deployments(agent="versioned")}
    await suite.stop(first)
    for job in jobs[4:]:
        await client.signal(job, "go", 2)
        await until(lambda job=job: wants(client, job))
    stuck = [found.job.park_reason for found in await client.stuck() if found.job.id in jobs]
    await suite.start(first)
    rest = [await client.wait(job, 20) for job in jobs[4:]]
    await suite.stop(second)

    assert [job.result for job in done] == [[1, "v1"]] * 4
    assert (listed["v1"].runners, listed["v1"].open_jobs, listed["v2"].runners) == (1, 2, 1)
    assert all("version v1 of its agent is needed" in reason for reason in stuck)
    assert len(stuck) == 2
    assert [job.result for job in rest] == [[2, "v1"]] * 2


async def wants(client: AsyncClient, job_id: str) -> list:
    job = await client.get(job_id)
    return [job] if job.status == "parked" and job.wants_version == "v1" else []
