"""Collects what a suite has on record about its jobs, over its public interfaces."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from aetheris_chassis.client import open_channel, retrying
from aetheris_journal import codec
from aetheris_kernel.errors import Conflict, NotFound
from aetheris_proto.ledger.v1 import ledger_pb2 as ledger
from aetheris_proto.ledger.v1.ledger_pb2_grpc import LedgerStub
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler
from aetheris_proto.scheduler.v1.scheduler_pb2_grpc import SchedulerStub

from harness.history import Calls, Chain, Link, Row
from harness.suite import Suite

_AT_ONCE = 8
_DEADLINE_S = 30.0
T = TypeVar("T")


async def rows(suite: Suite, tenant: str = "default") -> dict[str, Row]:
    """Every job of the tenant, as the scheduler knows it."""
    async with open_channel(suite.scheduler) as channel:
        stub = SchedulerStub(channel)
        request = scheduler.ListRequest(tenant=tenant, page_size=1_000)
        ids: list[str] = []
        while True:
            page = await _asked(lambda: stub.List(request, timeout=10))
            ids += [job.job_id for job in page.jobs]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token

        async def row(job_id: str) -> Row:
            job = (await _asked(lambda: stub.Get(scheduler.GetRequest(job_id=job_id), timeout=10))).job
            state = scheduler.JobState.Name(job.state).removeprefix("JOB_STATE_").lower()
            why = job.park_reason or job.failure.message
            return Row(state, job.idempotency_key, job.result, why, job.parent_job_id)

        return await _each(ids, row)


async def unfinished(suite: Suite, tenant: str = "default") -> list[scheduler.Job]:
    """The jobs that have not ended."""
    states = [scheduler.JOB_STATE_READY, scheduler.JOB_STATE_LEASED, scheduler.JOB_STATE_PARKED]
    async with open_channel(suite.scheduler) as channel:
        request = scheduler.ListRequest(tenant=tenant, page_size=1_000, states=states)
        return list((await _asked(lambda: SchedulerStub(channel).List(request, timeout=10))).jobs)


async def at_work(suite: Suite) -> list[str]:
    """The id of each runner that has a session; a runner with two sessions is in it twice."""
    async with open_channel(suite.scheduler) as channel:
        page = await _asked(lambda: SchedulerStub(channel).Runners(scheduler.RunnersRequest(), timeout=10))
        return sorted(runner.runner_id for runner in page.runners)


async def chains(suite: Suite, job_ids: Iterable[str]) -> dict[str, Chain]:
    """The chain of each job that has one, and what the ledger's verification says about it."""
    async with open_channel(suite.ledger) as channel:
        stub = LedgerStub(channel)

        async def chain(job_id: str) -> Chain | None:
            try:
                verdict = await _asked(lambda: stub.Verify(ledger.VerifyRequest(job_id=job_id), timeout=10))
                links = await _links(stub, job_id)
            except NotFound:
                return None
            except Conflict as broken:
                return Chain((), broken.message)
            return Chain(links, "" if verdict.intact else f"commit {verdict.bad_seq}: {verdict.problem}")

        found = await _each(job_ids, chain)
        return {job_id: chain for job_id, chain in found.items() if chain is not None}


async def _links(stub: Any, job_id: str) -> tuple[Link, ...]:
    links: list[Link] = []
    while True:
        request = ledger.ReadRequest(job_id=job_id, after_seq=links[-1].seq if links else 0)
        page = await _asked(lambda request=request: stub.Read(request, timeout=10))  # type: ignore[misc]
        for commit in page.commits:
            at = commit.record_time.seconds + commit.record_time.nanos / 1e9
            links.append(Link(commit.seq, commit.lease, at, tuple(codec.decode(commit.body))))
        if not page.more:
            return tuple(links)


def calls(said: Mapping[str, Mapping[str, Any]]) -> dict[str, Calls]:
    """What the counter answers to GET /calls."""
    return {key: Calls(tuple(c["times"]), c["applied"], c["refused"]) for key, c in said.items()}


async def _asked(call: Callable[[], Awaitable[T]]) -> T:
    return await retrying(call, deadline_s=_DEADLINE_S)


async def _each(ids: Iterable[str], ask: Callable[[str], Awaitable[T]]) -> dict[str, T]:
    found: dict[str, T] = {}
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(job_id: str) -> None:
        async with room:
            found[job_id] = await ask(job_id)

    async with asyncio.TaskGroup() as asking:
        for job_id in ids:
            asking.create_task(one(job_id))
    return found
