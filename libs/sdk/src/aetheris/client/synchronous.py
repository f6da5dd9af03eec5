"""The synchronous client, generated from asynchronous.py: change that file, then run `make client`."""

# ruff: noqa: UP028 - `yield from` exists in synchronous code only

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from aetheris_api.approvals import Approval
from aetheris_api.effects import Effect
from aetheris_api.health import Health
from aetheris_api.inbox import MessageAnswer, SignalAnswer
from aetheris_api.jobs import AcceptedJob, Job, StuckJob
from aetheris_api.record import Event, StoredCommit, Verification
from aetheris_api.runners import Agent, Deployment, Runner
from aetheris_api.tokens import TokenAnswer
from aetheris_api.trace import Trace
from pydantic import BaseModel

from aetheris.client import calls, exchange
from aetheris.client.errors import JobNotFinished

Answer = TypeVar("Answer", bound=BaseModel)


class Client:
    """Talks to Aetheris over HTTP.

        with Client("http://localhost:8080") as client:
            job = client.submit(agent="default", message="Summarize the report")
            print(client.result(job.id))

    A call is sent again for up to `retry_s` seconds while the server does not answer or is busy; every call may safely
    arrive twice. A refusal is raised as ApiError. One client may be shared between threads.
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
        self._http = exchange.Http(**exchange.settings(self.url, timeout, actor, roles))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

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
        start_after: datetime | None = None,
    ) -> AcceptedJob:
        """A new job, durable when this returns: started by a message, or like a function with
        `input={"args": […], "kwargs": {…}}`. A second submission under one key gets the first job. No runner starts the
        job before `start_after`; the job is cancelled if it has not ended by its `deadline`."""
        return self._call(calls.submit(agent, message, input, idempotency_key, queue, priority, deadline, start_after))

    def get(self, job_id: str) -> Job:
        return self._call(calls.get(job_id))

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """The job once it has completed. Raises JobFailed or JobCancelled if it ended otherwise, and
        JobNotFinished, a TimeoutError, if `timeout` seconds pass first."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left_s = exchange.WAIT_S if deadline is None else deadline - time.monotonic()
            job = self._call(calls.get(job_id, max(0.0, min(exchange.WAIT_S, left_s))))
            if job.finished:
                return exchange.ended(job)
            if deadline is not None and time.monotonic() >= deadline:
                raise JobNotFinished(job, timeout or 0.0)

    def result(self, job_id: str, timeout: float | None = None) -> Any:
        """The value that the job's agent returned, once it has."""
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
        """Ask for the job's end. Its runner ends it, after compensations; `wait` returns or raises then."""
        return self._call(calls.cancel(job_id, reason))

    def terminate(self, job_id: str, reason: str = "") -> Job:
        """End the job at once, without its agent's code and without compensation: for a job that a cancel does not
        end. Effects that have started and have no outcome are in doubt from then on."""
        return self._call(calls.terminate(job_id, reason))

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
    ) -> AcceptedJob:
        """A new job that begins with this job's history: the commits up to `at`, or those before the step `before`;
        without either, all of it. If the fork would repeat an effect of the history that it left out, it reuses the
        result, asks a person ("ask") or refuses ("block")."""
        return self._call(calls.fork(job_id, at, before, effects, idempotency_key))

    def retry(self, job_id: str) -> AcceptedJob:
        """Let a parked job go on under its id, or a failed one as a fork from before the step that failed. Retrying a
        failed job again gives the same fork."""
        return self._call(calls.retry(job_id))

    # The job's inbox.

    def signal(self, job_id: str, key: str, payload: Any = None) -> SignalAnswer:
        """End the job's wait for `key`, now or when the job comes to it. A repetition changes nothing."""
        return self._call(calls.signal(job_id, key, payload))

    def message(
        self, job_id: str, channel: str, payload: Any = None, *, message_id: str | None = None
    ) -> MessageAnswer:
        """Queue a message for the job. With an id of your own, a repetition changes nothing."""
        return self._call(calls.message(job_id, channel, payload, message_id))

    def complete(self, token: str, payload: Any = None, *, error: str | None = None) -> TokenAnswer:
        """Use a token: its job gets `payload`, or an error. A repetition with the same content changes nothing."""
        return self._call(calls.complete(token, payload, error))

    # Decisions of people.

    def approvals(
        self, *, state: str | Sequence[str] = (), approver: str = "", job_id: str = "", limit: int = 100
    ) -> list[Approval]:
        """Approvals that wait for a decision, oldest first; or those in the given states."""
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
        """Say yes, as the `actor` of this client; with `arguments`, to arguments that you edited."""
        return self._call(calls.approve(approval_id, comment, arguments))

    def reject(self, approval_id: str, comment: str = "") -> Approval:
        return self._call(calls.reject(approval_id, comment))

    def delegate(self, approval_id: str, to: str, comment: str = "") -> Approval:
        """Let a role, or person:NAME, decide instead of you."""
        return self._call(calls.delegate(approval_id, to, comment))

    def resolve(self, key: str, verdict: str, result: Any = None, *, note: str = "") -> Effect:
        """Say what became of an effect in doubt: committed, with the tool's result, not_executed or abandoned. Its job
        goes on with that."""
        return self._call(calls.resolve(key, verdict, result, note))

    # The job's record.

    def trace(self, job_id: str) -> Trace:
        return self._call(calls.trace(job_id))

    def verify(self, job_id: str) -> Verification:
        return self._call(calls.verify(job_id))

    def events(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """The events on record, in order."""
        place: int | None = after
        while place is not None:
            page = self._call(calls.events(job_id, place))
            for event in page.events:
                yield event
            place = page.next_after

    def commits(self, job_id: str) -> Iterator[StoredCommit]:
        """The commits as they are stored, byte for byte: for `aetheris.history`, which checks the chain."""
        place: int | None = 0
        while place is not None:
            page = self._call(calls.commits(job_id, place))
            for commit in page.commits:
                yield commit
            place = page.next_after

    def stream(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """The events on record, and then each new one, until the job has ended. After a lost connection the stream
        continues where it was."""
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
                            for event in reading.feed(line):
                                yield event
            except httpx.TransportError as error:
                failure = error
            if reading.over:
                return
            refused = response if response is not None and response.is_error else None
            if response is not None and refused is None:  # the server answered, and then the connection broke
                patience = exchange.Patience(time.monotonic() + self._retry_s)
            pause_s = patience.pause(time.monotonic(), refused)
            if pause_s is None:
                raise (
                    exchange.refusal(refused)
                    if refused is not None
                    else exchange.unreachable(self.url, failure or httpx.ReadError("the stream was cut"))
                ) from failure
            time.sleep(pause_s)

    # Operations.

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

    def deployments(self, *, agent: str = "", limit: int = 1_000) -> list[Deployment]:
        """The versions of agents, with the runners that offer each and your open jobs of each."""
        found: list[Deployment] = []
        cursor: str | None = None
        while len(found) < limit:
            page = self._call(calls.deployments(agent, limit - len(found), cursor))
            found += page.deployments
            cursor = page.next_cursor
            if not cursor:
                break
        return found

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
