"""The client for ordinary code."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
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


class Client:
    """Talks to Aetheris over HTTP.

        client = Client("http://localhost:8080")
        job = client.submit(agent="default", message="Summarize the report")
        print(client.result(job.id))

    Calls are sent again for up to `retry_s` while nobody answers or the server is busy; each of them may
    safely arrive twice. Refusals are raised as ApiError. Safe to share between threads.
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
        self._http = httpx.Client(**exchange.settings(self.url, timeout, actor, roles))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_http"):
            self._http.close()

    # Jobs.

    def submit(
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
        """A new job, durable when this returns: called by a message, or like a function with
        `input={"args": […], "kwargs": {…}}`. A second submission under one key is the first job."""
        return self._call(calls.submit(agent, message, input, idempotency_key, queue, priority, deadline))

    def get(self, job_id: str) -> Job:
        return self._call(calls.get(job_id))

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """The job once it has completed. Raises JobFailed or JobCancelled if it ended otherwise, and
        JobNotFinished, a TimeoutError, when `timeout` seconds are over first."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left_s = exchange.WAIT_S if deadline is None else deadline - time.monotonic()
            job = self._call(calls.get(job_id, max(0.0, min(exchange.WAIT_S, left_s))))
            if job.finished:
                return exchange.ended(job)
            if deadline is not None and time.monotonic() >= deadline:
                raise JobNotFinished(job, timeout or 0.0)

    def result(self, job_id: str, timeout: float | None = None) -> Any:
        """What the job's agent returned, once it has."""
        return self.wait(job_id, timeout).result

    def jobs(
        self,
        *,
        status: str | Sequence[str] = (),
        agent: str = "",
        queue: str = "",
        parent: str = "",
        limit: int = 100,
    ) -> list[Job]:
        """The newest jobs, without input and result."""
        found: list[Job] = []
        cursor: str | None = None
        while len(found) < limit:
            page = self._call(calls.jobs(status, agent, queue, parent, limit - len(found), cursor))
            found += page.jobs
            cursor = page.next_cursor
            if not cursor:
                break
        return found

    def cancel(self, job_id: str, reason: str = "") -> Job:
        """Ask for its end. Its runner ends it, after compensations; `wait` sees when."""
        return self._call(calls.cancel(job_id, reason))

    def pause(self, job_id: str) -> Job:
        return self._call(calls.pause(job_id))

    def resume(self, job_id: str) -> Job:
        return self._call(calls.resume(job_id))

    def requeue(self, job_id: str) -> Job:
        """Let a job go on that is parked for an operator: poisoned, in doubt, or at odds with its record."""
        return self._call(calls.requeue(job_id))

    def fork(
        self,
        job_id: str,
        *,
        at: int = 0,
        before: str = "",
        effects: str = "reuse",
        idempotency_key: str | None = None,
    ) -> Job:
        """A new job that begins with this one's history: the commits up to `at`, or what comes `before` a step;
        without either, all of it. Where it would make an effect that the rest of the old job has made, it
        reuses its result, asks a person ("ask") or refuses ("block")."""
        return self._call(calls.fork(job_id, at, before, effects, idempotency_key))

    # What is said to a job.

    def signal(self, job_id: str, key: str, payload: Any = None) -> SignalAnswer:
        """End the job's wait for `key`, now or when it comes to it. Saying it again changes nothing."""
        return self._call(calls.signal(job_id, key, payload))

    def message(
        self, job_id: str, channel: str, payload: Any = None, *, message_id: str | None = None
    ) -> MessageAnswer:
        """Queue a message. With an id of your own, saying it again changes nothing."""
        return self._call(calls.message(job_id, channel, payload, message_id))

    def complete(self, token: str, payload: Any = None, *, error: str | None = None) -> TokenAnswer:
        """Say the one thing that a token allows, or that it went wrong. Saying the same again changes nothing."""
        return self._call(calls.complete(token, payload, error))

    # What people decide.

    def approvals(
        self, *, state: str | Sequence[str] = (), approver: str = "", job_id: str = "", limit: int = 100
    ) -> list[Approval]:
        """What waits for a decision, oldest first; or what is in these states."""
        found: list[Approval] = []
        cursor: str | None = None
        while len(found) < limit:
            page = self._call(calls.approvals(state, approver, job_id, limit - len(found), cursor))
            found += page.approvals
            cursor = page.next_cursor
            if not cursor:
                break
        return found

    def approval(self, approval_id: str) -> Approval:
        return self._call(calls.approval(approval_id))

    def approve(self, approval_id: str, comment: str = "", *, arguments: Any = calls.AS_ASKED) -> Approval:
        """Say yes, as `actor=` of this client; to other arguments, if you edit them."""
        return self._call(calls.approve(approval_id, comment, arguments))

    def reject(self, approval_id: str, comment: str = "") -> Approval:
        return self._call(calls.reject(approval_id, comment))

    def delegate(self, approval_id: str, to: str, comment: str = "") -> Approval:
        """Hand your answer to a role or to person:NAME."""
        return self._call(calls.delegate(approval_id, to, comment))

    def resolve(self, key: str, verdict: str, result: Any = None, *, note: str = "") -> Effect:
        """End a doubt: committed, with what the tool returned, not_executed or abandoned. The job goes on."""
        return self._call(calls.resolve(key, verdict, result, note))

    # What a job did.

    def trace(self, job_id: str) -> Trace:
        return self._call(calls.trace(job_id))

    def verify(self, job_id: str) -> Verdict:
        return self._call(calls.verify(job_id))

    def events(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """What is on record, in order."""
        place: int | None = after
        while place is not None:
            page = self._call(calls.events(job_id, place))
            yield from page.events
            place = page.next_after

    def commits(self, job_id: str) -> Iterator[StoredCommit]:
        """What is stored, byte for byte: for `aetheris.history`, which checks the chain."""
        place: int | None = 0
        while place is not None:
            page = self._call(calls.commits(job_id, place))
            yield from page.commits
            place = page.next_after

    def stream(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """What is on record and then what happens, until the job has ended. Goes on where it was when the
        connection is cut."""
        reading = exchange.Reading(after)
        patience = exchange.Patience(time.monotonic() + self._retry_s)
        while True:
            failure: httpx.TransportError | None = None
            response: httpx.Response | None = None
            try:
                with self._http.stream(
                    "GET", calls.stream(job_id), headers=reading.begin(), timeout=exchange.STREAM_SILENCE_S
                ) as response:
                    if response.is_error:
                        response.read()
                    else:
                        for line in response.iter_lines():
                            yield from reading.feed(line)
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
            time.sleep(pause_s)

    # The house.

    def effects(self, *, state: str = "", job_id: str = "", limit: int = 100) -> list[Effect]:
        """Side effects, newest change first, e.g. state="in_doubt"."""
        found: list[Effect] = []
        cursor: str | None = None
        while len(found) < limit:
            page = self._call(calls.effects(state, job_id, limit - len(found), cursor))
            found += page.effects
            cursor = page.next_cursor
            if not cursor:
                break
        return found

    def agents(self) -> list[Agent]:
        return self._call(calls.agents()).agents

    def runners(self) -> list[Runner]:
        return self._call(calls.runners()).runners

    def stuck(self) -> list[StuckJob]:
        return self._call(calls.stuck()).jobs

    def health(self) -> Health:
        return self._call(calls.health())

    def _call(self, call: calls.Call[Answer]) -> Answer:
        patience = exchange.Patience(time.monotonic() + self._retry_s)
        while True:
            response: httpx.Response | None = None
            failure: httpx.TransportError | None = None
            try:
                response = self._http.request(**exchange.arguments(call, self._timeout_s))
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
            time.sleep(pause_s)
