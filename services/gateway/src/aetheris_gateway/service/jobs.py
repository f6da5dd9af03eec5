"""Jobs: submit, show, list, cancel, terminate, pause, resume and requeue them. The scheduler does all of it; this
module checks that the job belongs to the caller's tenant, and tells the requester if no runner offers the agent."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from uuid import UUID

from aetheris_journal.codec import to_timestamp
from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Invalid, NotFound, Refusal
from aetheris_kernel.ids import bucket_of_key, in_bucket, parse_job_id
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from aetheris_gateway.core import intake
from aetheris_gateway.core.requests import NewJob
from aetheris_gateway.identity import Caller
from aetheris_gateway.peers import Scheduler
from aetheris_gateway.states import FINISHED
from aetheris_gateway.streams import unless_draining
from aetheris_gateway.waits import WaitBudget

PAGE_ROWS = 100
PAGE_ROWS_MAX = 1_000
WAIT_MAX_S = 60
_TOKEN_CHARS_MAX = 1_024
_OWNERS_MAX = 10_000
_RUNNER_PAGES_MAX = 20
# How long the gateway relies on having seen that an agent is offered, and on having seen that it is not; and how long
# a submission waits for the scheduler's list of runners.
_OFFERED_S = 10.0
_UNOFFERED_S = 1.0
_HINT_S = 0.5
_TRACE_CONTEXT = TraceContextTextMapPropagator()


class JobService:
    def __init__(
        self, scheduler: Scheduler, clock: Clock, draining: asyncio.Event, waits: WaitBudget | None = None
    ) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._draining = draining
        self._waits = waits or WaitBudget()
        # The tenant of each job that was seen lately. It never changes, so reading a record need not ask the scheduler.
        self._owners: OrderedDict[str, str] = OrderedDict()
        # The agents that connected runners offered at the time `_offers_at`.
        self._offers: frozenset[str] = frozenset()
        self._offers_at = float("-inf")

    async def submit(self, caller: Caller, new: NewJob, *, traceparent: str = "") -> pb.SubmitResponse:
        submission = scheduler_pb.SubmitRequest(
            tenant=caller.tenant,
            agent=new.agent,
            input=new.input.raw,
            idempotency_key=new.idempotency_key,
            queue=new.queue,
            priority=new.priority,
            deadline=None if new.deadline is None else to_timestamp(new.deadline),
            start_after=None if new.start_after is None else to_timestamp(new.start_after),
            actor=caller.actor,
        )
        job, created = await self.start(submission, traceparent)
        return pb.SubmitResponse(job=job, created=created, hint=await self._hint(job))

    async def start(self, submission: scheduler_pb.SubmitRequest, traceparent: str) -> tuple[scheduler_pb.Job, bool]:
        """The scheduler's job for a submission, and whether this call created it."""
        # A submission's input was parsed where it entered the gateway; a fork's input is that of an accepted job.
        submission.input_checked = True
        # The gateway chooses the id, so that a second try of this call is the same job.
        submission.job_id = str(self._new_id(submission))
        submission.traceparent = _traceparent(traceparent)
        response = await self._scheduler.submit(submission)
        self._remember(response.job)
        # If the first try was stored and its answer lost, the second try finds the job under the id chosen here.
        return response.job, response.created or response.job.job_id == submission.job_id

    def _new_id(self, submission: scheduler_pb.SubmitRequest) -> UUID:
        new_id = self._clock.new_id()
        if not submission.idempotency_key:
            return new_id
        bucket = bucket_of_key(submission.tenant, submission.agent, submission.idempotency_key)
        return in_bucket(new_id, bucket)

    async def get(self, caller: Caller, request: pb.GetJobRequest) -> pb.GetJobResponse:
        """The job. With a wait, the answer comes once the job has ended or the time is over; a drain ends the wait."""
        job_id = str(parse_job_id(request.job_id))
        wait_s = request.wait.seconds + request.wait.nanos / 1e9
        if not 0 <= wait_s <= WAIT_MAX_S:
            raise Invalid(f"wait is between 0 and {WAIT_MAX_S} seconds", field="wait")
        if not wait_s:
            return pb.GetJobResponse(job=await self.owned(caller, job_id))
        with self._waits.waiting(caller):
            return await self._ended(caller, job_id, wait_s)

    async def _ended(self, caller: Caller, job_id: str, wait_s: float) -> pb.GetJobResponse:
        job = None
        if self._owners.get(job_id) != caller.tenant:
            # Ask without a wait first: a caller that may not see the job must not learn when it ends.
            job = await self.owned(caller, job_id)
            if job.state in FINISHED:
                return pb.GetJobResponse(job=job)
        ended = await unless_draining(self._draining, self._scheduler.get(job_id, wait_s=wait_s))
        return pb.GetJobResponse(job=ended or job or await self.owned(caller, job_id))

    async def list(self, caller: Caller, request: pb.ListJobsRequest) -> pb.ListJobsResponse:
        page = await self._scheduler.list(
            scheduler_pb.ListRequest(
                tenant=caller.tenant,
                states=request.states,
                agent=intake.name(request.agent, "agent") if request.agent else "",
                queue=intake.name(request.queue, "queue") if request.queue else "",
                parent_job_id=str(parse_job_id(request.parent_job_id)) if request.parent_job_id else "",
                page_size=page_size(request.page_size),
                page_token=page_token(request.page_token),
            )
        )
        return pb.ListJobsResponse(jobs=page.jobs, next_page_token=page.next_page_token)

    async def cancel(self, caller: Caller, request: pb.CancelJobRequest) -> pb.CancelJobResponse:
        await self.require(caller, request.job_id)
        reason = intake.sentence(request.reason, "reason")
        order = scheduler_pb.CancelRequest(job_id=request.job_id, reason=reason, actor=caller.actor)
        return pb.CancelJobResponse(job=await self._scheduler.cancel(order))

    async def terminate(self, caller: Caller, request: pb.TerminateJobRequest) -> pb.TerminateJobResponse:
        await self.require(caller, request.job_id)
        reason = intake.sentence(request.reason, "reason")
        order = scheduler_pb.TerminateRequest(job_id=request.job_id, reason=reason, actor=caller.actor)
        return pb.TerminateJobResponse(job=await self._scheduler.terminate(order))

    async def pause(self, caller: Caller, request: pb.PauseJobRequest) -> pb.PauseJobResponse:
        await self.require(caller, request.job_id)
        order = scheduler_pb.PauseRequest(job_id=request.job_id, actor=caller.actor)
        return pb.PauseJobResponse(job=await self._scheduler.pause(order))

    async def resume(self, caller: Caller, request: pb.ResumeJobRequest) -> pb.ResumeJobResponse:
        await self.require(caller, request.job_id)
        order = scheduler_pb.ResumeRequest(job_id=request.job_id, actor=caller.actor)
        return pb.ResumeJobResponse(job=await self._scheduler.resume(order))

    async def requeue(self, caller: Caller, request: pb.RequeueJobRequest) -> pb.RequeueJobResponse:
        await self.require(caller, request.job_id)
        order = scheduler_pb.RequeueRequest(job_id=request.job_id, actor=caller.actor)
        return pb.RequeueJobResponse(job=await self._scheduler.requeue(order))

    async def stuck(self, caller: Caller, request: pb.ListStuckRequest) -> pb.ListStuckResponse:
        size, token = page_size(request.page_size), page_token(request.page_token)
        asked = scheduler_pb.StuckRequest(tenant=caller.tenant, page_size=size, page_token=token)
        page = await self._scheduler.stuck(asked)
        return pb.ListStuckResponse(jobs=page.jobs, next_page_token=page.next_page_token)

    async def runners(self, request: pb.ListRunnersRequest) -> pb.ListRunnersResponse:
        size, token = page_size(request.page_size), page_token(request.page_token)
        page = await self._scheduler.runners(scheduler_pb.RunnersRequest(page_size=size, page_token=token))
        return pb.ListRunnersResponse(runners=page.runners, next_page_token=page.next_page_token)

    async def deployments(self, caller: Caller, request: pb.ListDeploymentsRequest) -> pb.ListDeploymentsResponse:
        asked = scheduler_pb.DeploymentsRequest(
            tenant=caller.tenant,
            agent=intake.name(request.agent, "agent") if request.agent else "",
            page_size=page_size(request.page_size),
            page_token=page_token(request.page_token),
        )
        page = await self._scheduler.deployments(asked)
        return pb.ListDeploymentsResponse(deployments=page.deployments, next_page_token=page.next_page_token)

    async def all_runners(self) -> Sequence[scheduler_pb.Runner]:
        """The connected runners, up to 20 pages of them: more than a deployment has."""
        found = scheduler_pb.RunnersResponse().runners
        token = ""
        for _ in range(_RUNNER_PAGES_MAX):
            page = await self.runners(pb.ListRunnersRequest(page_size=PAGE_ROWS_MAX, page_token=token))
            found.extend(page.runners)
            token = page.next_page_token
            if not token:
                break
        return found

    async def _hint(self, job: scheduler_pb.Job) -> str:
        """Warning text if no connected runner offers the agent; empty for a job that a runner has already."""
        if job.state != scheduler_pb.JOB_STATE_READY:
            return ""
        wanted, now = {job.agent, "*"}, self._clock.monotonic()
        if now - self._offers_at >= (_OFFERED_S if wanted & self._offers else _UNOFFERED_S):
            self._offers_at = now
            try:
                async with asyncio.timeout(_HINT_S):
                    runners = await self.all_runners()
            except (Refusal, TimeoutError):
                return ""
            self._offers = frozenset(agent for runner in runners for agent in runner.agents)
        if wanted & self._offers:
            return ""
        return f"no runner offers agent '{job.agent}' now; the job waits until one does"

    async def require(self, caller: Caller, job_id: str) -> None:
        """NotFound unless the job is the caller's."""
        parse_job_id(job_id)
        if job_id in self._owners:
            self._owners.move_to_end(job_id)
            if self._owners[job_id] != caller.tenant:
                raise _unknown(job_id)
        else:
            await self.owned(caller, job_id)

    async def glance(self, caller: Caller, job_id: str) -> scheduler_pb.Job:
        """The caller's job, if the scheduler answers at once; otherwise Unavailable."""
        return self._checked(caller, await self._scheduler.glance(job_id))

    async def owned(self, caller: Caller, job_id: str) -> scheduler_pb.Job:
        """The caller's job; NotFound for a job of another tenant."""
        parse_job_id(job_id)
        return self._checked(caller, await self._scheduler.get(job_id))

    def _remember(self, job: scheduler_pb.Job) -> None:
        self._owners[job.job_id] = job.tenant
        if len(self._owners) > _OWNERS_MAX:
            self._owners.popitem(last=False)

    def _checked(self, caller: Caller, job: scheduler_pb.Job) -> scheduler_pb.Job:
        self._remember(job)
        if job.tenant != caller.tenant:
            raise _unknown(job.job_id)
        return job


def _traceparent(sent: str) -> str:
    """The trace that the job joins: that of this request's span, if the gateway makes spans, otherwise the caller's."""
    carrier: dict[str, str] = {}
    _TRACE_CONTEXT.inject(carrier)
    return carrier.get("traceparent") or intake.traceparent(sent)


def _unknown(job_id: str) -> NotFound:
    return NotFound("no such job", job_id=job_id)


def page_size(asked: int, *, default: int = PAGE_ROWS, most: int = PAGE_ROWS_MAX) -> int:
    if not 0 <= asked <= most:
        raise Invalid(f"a page has 1 to {most} entries", field="page_size")
    return asked or default


def page_token(token: str) -> str:
    if len(token) > _TOKEN_CHARS_MAX or not token.isprintable():
        raise Invalid("this cursor was not returned by a page", field="page_token")
    return token
