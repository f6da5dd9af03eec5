"""The client for asyncio: `Client` with await."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from aetheris.client import calls, exchange
from aetheris.client.errors import JobNotFinished
from aetheris.client.models import (
    Agent,
    Approval,
    Effect,
    Event,
    Health,
    Job,
    MessageAnswer,
    Runner,
    SignalAnswer,
    StoredCommit,
    StuckJob,
    TokenAnswer,
    Trace,
    Verdict,
)

Answer = TypeVar("Answer")


class AsyncClient:
    """Talks to Aetheris over HTTP, in asyncio. What each call promises is said at `Client`.

    async with AsyncClient("http://localhost:8080") as client:
        job = await client.submit(agent="default", message="Summarize the report")
        print(await client.result(job.id))
    """

    def __init__(
        self,
        url: str = exchange.DEFAULT_URL,
        *,
        timeout: float = 10.0,
        retry_s: float = 5.0,
        actor: str | None = None,
        roles: Sequence[str] = (),
    ) -> None:
        self.url = exchange.checked_url(url)
        self._timeout_s = timeout
        self._retry_s = retry_s
        self._http = httpx.AsyncClient(**exchange.settings(self.url, timeout, actor, roles))

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self.close()

    # Jobs.

    async def submit(
        self,
        agent: str = "default",
        message: str | None = None,
        *,
        input: Mapping[str, Any] | None = None,  # noqa: A002
        idempotency_key: str | None = None,
        queue: str = "",
        priority: int = 0,
        deadline: datetime | None = None,
    ) -> Job:
        return await self._call(calls.submit(agent, message, input, idempotency_key, queue, priority, deadline))

    async def get(self, job_id: str) -> Job:
        return await self._call(calls.get(job_id))

    async def wait(self, job_id: str, timeout: float | None = None) -> Job:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left_s = exchange.WAIT_S if deadline is None else deadline - time.monotonic()
            job = await self._call(calls.get(job_id, max(0.0, min(exchange.WAIT_S, left_s))))
            if job.finished:
                return exchange.ended(job)
            if deadline is not None and time.monotonic() >= deadline:
                raise JobNotFinished(job, timeout or 0.0)

    async def result(self, job_id: str, timeout: float | None = None) -> Any:
        return (await self.wait(job_id, timeout)).result

    async def jobs(
        self,
        *,
        status: str | Sequence[str] = (),
        agent: str = "",
        queue: str = "",
        parent: str = "",
        limit: int = 100,
    ) -> list[Job]:
        found: list[Job] = []
        cursor: str | None = None
        while len(found) < limit:
            page = await self._call(calls.jobs(status, agent, queue, parent, limit - len(found), cursor))
            found += page.jobs
            cursor = page.next_cursor
            if not cursor:
                break
        return found

    async def cancel(self, job_id: str, reason: str = "") -> Job:
        return await self._call(calls.cancel(job_id, reason))

    async def pause(self, job_id: str) -> Job:
        return await self._call(calls.pause(job_id))

    async def resume(self, job_id: str) -> Job:
        return await self._call(calls.resume(job_id))

    async def requeue(self, job_id: str) -> Job:
        return await self._call(calls.requeue(job_id))

    async def fork(
        self,
        job_id: str,
        *,
        at: int = 0,
        before: str = "",
        effects: str = "reuse",
        idempotency_key: str | None = None,
    ) -> Job:
        return await self._call(calls.fork(job_id, at, before, effects, idempotency_key))

    # What is said to a job.

    async def signal(self, job_id: str, key: str, payload: Any = None) -> SignalAnswer:
        return await self._call(calls.signal(job_id, key, payload))

    async def message(
        self, job_id: str, channel: str, payload: Any = None, *, message_id: str | None = None
    ) -> MessageAnswer:
        return await self._call(calls.message(job_id, channel, payload, message_id))

    async def complete(self, token: str, payload: Any = None, *, error: str | None = None) -> TokenAnswer:
        return await self._call(calls.complete(token, payload, error))

    # What people decide.

    async def approvals(
        self, *, state: str | Sequence[str] = (), approver: str = "", job_id: str = "", limit: int = 100
    ) -> list[Approval]:
        found: list[Approval] = []
        cursor: str | None = None
        while len(found) < limit:
            page = await self._call(calls.approvals(state, approver, job_id, limit - len(found), cursor))
            found += page.approvals
            cursor = page.next_cursor
            if not cursor:
                break
        return found

    async def approval(self, approval_id: str) -> Approval:
        return await self._call(calls.approval(approval_id))

    async def approve(self, approval_id: str, comment: str = "", *, arguments: Any = calls.AS_ASKED) -> Approval:
        return await self._call(calls.approve(approval_id, comment, arguments))

    async def reject(self, approval_id: str, comment: str = "") -> Approval:
        return await self._call(calls.reject(approval_id, comment))

    async def delegate(self, approval_id: str, to: str, comment: str = "") -> Approval:
        return await self._call(calls.delegate(approval_id, to, comment))

    async def resolve(self, key: str, verdict: str, result: Any = None, *, note: str = "") -> Effect:
        return await self._call(calls.resolve(key, verdict, result, note))

    # What a job did.

    async def trace(self, job_id: str) -> Trace:
        return await self._call(calls.trace(job_id))

    async def verify(self, job_id: str) -> Verdict:
        return await self._call(calls.verify(job_id))

    async def events(self, job_id: str, *, after: int = 0) -> AsyncIterator[Event]:
        place: int | None = after
        while place is not None:
            page = await self._call(calls.events(job_id, place))
            for event in page.events:
                yield event
            place = page.next_after

    async def commits(self, job_id: str) -> AsyncIterator[StoredCommit]:
        place: int | None = 0
        while place is not None:
            page = await self._call(calls.commits(job_id, place))
            for commit in page.commits:
                yield commit
            place = page.next_after

    async def stream(self, job_id: str, *, after: int = 0) -> AsyncIterator[Event]:
        reading = exchange.Reading(after)
        patience = exchange.Patience(time.monotonic() + self._retry_s)
        while True:
            failure: httpx.TransportError | None = None
            response: httpx.Response | None = None
            try:
                async with self._http.stream(
                    "GET", calls.stream(job_id), headers=reading.begin(), timeout=exchange.STREAM_SILENCE_S
                ) as response:
                    if response.is_error:
                        await response.aread()
                    else:
                        async for line in response.aiter_lines():
                            for event in reading.feed(line):
                                yield event
            except httpx.TransportError as error:
                failure = error
            if reading.over:
                return
            refused = response if response is not None and response.is_error else None
            if response is not None and refused is None:  # it was served, and then cut
                patience = exchange.Patience(time.monotonic() + self._retry_s)
            pause_s = patience.pause(time.monotonic(), refused)
            if pause_s is None:
                raise (
                    exchange.refusal(refused)
                    if refused is not None
                    else exchange.unreachable(self.url, failure or httpx.ReadError("the stream was cut"))
                ) from failure
            await asyncio.sleep(pause_s)

    # The house.

    async def effects(self, *, state: str = "", job_id: str = "", limit: int = 100) -> list[Effect]:
        found: list[Effect] = []
        cursor: str | None = None
        while len(found) < limit:
            page = await self._call(calls.effects(state, job_id, limit - len(found), cursor))
            found += page.effects
            cursor = page.next_cursor
            if not cursor:
                break
        return found

    async def agents(self) -> list[Agent]:
        return (await self._call(calls.agents())).agents

    async def runners(self) -> list[Runner]:
        return (await self._call(calls.runners())).runners

    async def stuck(self) -> list[StuckJob]:
        return (await self._call(calls.stuck())).jobs

    async def health(self) -> Health:
        return await self._call(calls.health())

    async def _call(self, call: calls.Call[Answer]) -> Answer:
        patience = exchange.Patience(time.monotonic() + self._retry_s)
        while True:
            response: httpx.Response | None = None
            failure: httpx.TransportError | None = None
            try:
                response = await self._http.request(**exchange.arguments(call, self._timeout_s))
            except httpx.TransportError as error:
                failure = error
            if response is not None and (response.is_success or response.status_code in call.fine):
                return exchange.read(call, response)
            pause_s = patience.pause(time.monotonic(), response)
            if pause_s is None:
                if response is not None:
                    raise exchange.refusal(response)
                assert failure is not None
                raise exchange.unreachable(self.url, failure) from failure
            await asyncio.sleep(pause_s)
