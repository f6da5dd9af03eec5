"""Jobs: submitted, shown, listed, cancelled, paused and resumed, all by the scheduler."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Invalid, NotFound, Refusal
from aetheris_kernel.ids import parse_job_id
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb
from google.protobuf.timestamp_pb2 import Timestamp
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from aetheris_gateway.core import intake
from aetheris_gateway.core.fork import CHOICES, Cut
from aetheris_gateway.identity import Caller
from aetheris_gateway.peers import Scheduler
from aetheris_gateway.states import FINISHED
from aetheris_gateway.streams import unless_draining

PAGE_ROWS = 100
PAGE_ROWS_MAX = 1_000
WAIT_MAX_S = 60
_TOKEN_CHARS_MAX = 1_024
_OWNERS_MAX = 10_000
_RUNNER_PAGES_MAX = 20
# How old the knowledge that an agent is offered may be, and that it is not; how long a submission waits for it.
_OFFERED_S = 10.0
_UNOFFERED_S = 1.0
_HINT_S = 0.5
_TRACE_CONTEXT = TraceContextTextMapPropagator()
_YEAR_10000 = 253_402_300_800  # seconds since 1970


class JobService:
    def __init__(self, scheduler: Scheduler, clock: Clock, draining: asyncio.Event) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._draining = draining
        # Whose a job is never changes, so reading a record need not ask each time.
        self._owners: OrderedDict[str, str] = OrderedDict()
        # The agents that runners offer, as of lately.
        self._offers: frozenset[str] = frozenset()
        self._offers_at = float("-inf")

    async def submit(self, caller: Caller, request: pb.SubmitRequest, *, traceparent: str = "") -> pb.SubmitResponse:
        match request.WhichOneof("what"):
            case "message":
                what = intake.message_input(request.message)
            case "input":
                what = intake.call_input(request.input)
            case _:
                raise Invalid('say what the agent shall do: send {"message": "…"}', field="message")
        job = scheduler_pb.SubmitRequest(
            tenant=caller.tenant,
            agent=intake.name(request.agent, "agent"),
            input=what,
            idempotency_key=intake.key(request.idempotency_key, "idempotency_key", required=False),
            queue=intake.name(request.queue or "default", "queue"),
            priority=intake.priority(request.priority),
            # Chosen here, so that a second try of this very call is the same job.
            job_id=str(self._clock.new_id()),
            traceparent=_traceparent(traceparent),
            actor=caller.actor,
        )
        if request.HasField("deadline"):
            job.deadline.CopyFrom(moment_of(request.deadline))
        response = await self._scheduler.submit(job)
        self._remember(response.job)
        # Where the first try was stored and its answer lost, the second one found its own job.
        created = response.created or response.job.job_id == job.job_id
        return pb.SubmitResponse(job=response.job, created=created, hint=await self._hint(response.job))

    async def get(self, caller: Caller, request: pb.GetJobRequest) -> pb.GetJobResponse:
        """The job; with a wait, once it has ended or the time is over. A drain ends the wait."""
        job_id = str(parse_job_id(request.job_id))
        wait_s = request.wait.seconds + request.wait.nanos / 1e9
        if not 0 <= wait_s <= WAIT_MAX_S:
            raise Invalid(f"wait is between 0 and {WAIT_MAX_S} seconds", field="wait")
        if not wait_s:
            return pb.GetJobResponse(job=await self._owned(caller, job_id))
        job = None
        if self._owners.get(job_id) != caller.tenant:
            # Asked without a wait first: whoever may not see the job does not learn when it ends.
            job = await self._owned(caller, job_id)
            if job.state in FINISHED:
                return pb.GetJobResponse(job=job)
        ended = await unless_draining(self._draining, self._scheduler.get(job_id, wait_s=wait_s))
        return pb.GetJobResponse(job=ended or job or await self._owned(caller, job_id))

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

    async def fork(
        self, caller: Caller, request: pb.ForkJobRequest, cut: Cut, *, traceparent: str = ""
    ) -> pb.ForkJobResponse:
        """A job that begins with the history of another, up to `cut`."""
        source = await self._owned(caller, request.job_id)
        job = scheduler_pb.SubmitRequest(
            tenant=caller.tenant,
            agent=source.agent,
            input=source.input,
            idempotency_key=intake.key(request.idempotency_key, "idempotency_key", required=False),
            queue=source.queue,
            priority=source.priority,
            job_id=str(self._clock.new_id()),
            traceparent=_traceparent(traceparent),
            actor=caller.actor,
            fork=scheduler_pb.Fork(
                from_job_id=source.job_id,
                at_seq=cut.seq,
                before_path=cut.before_path,
                effects=request.effects or CHOICES[0],
            ),
        )
        response = await self._scheduler.submit(job)
        created = response.created or response.job.job_id == job.job_id
        return pb.ForkJobResponse(job=response.job, created=created)

    async def stuck(self, caller: Caller, request: pb.ListStuckRequest) -> pb.ListStuckResponse:
        size, token = page_size(request.page_size), page_token(request.page_token)
        asked = scheduler_pb.StuckRequest(tenant=caller.tenant, page_size=size, page_token=token)
        page = await self._scheduler.stuck(asked)
        return pb.ListStuckResponse(jobs=page.jobs, next_page_token=page.next_page_token)

    async def runners(self, request: pb.ListRunnersRequest) -> pb.ListRunnersResponse:
        size, token = page_size(request.page_size), page_token(request.page_token)
        page = await self._scheduler.runners(scheduler_pb.RunnersRequest(page_size=size, page_token=token))
        return pb.ListRunnersResponse(runners=page.runners, next_page_token=page.next_page_token)

    async def all_runners(self) -> Sequence[scheduler_pb.Runner]:
        """Those of the first pages; nobody has more."""
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
        """That nobody offers the agent, where that is to be seen. What a leased job needs is not asked."""
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
            await self._owned(caller, job_id)

    async def glance(self, caller: Caller, job_id: str) -> scheduler_pb.Job:
        """The caller's job, if the scheduler can say at once; else Unavailable."""
        return self._checked(caller, await self._scheduler.glance(job_id))

    async def _owned(self, caller: Caller, job_id: str) -> scheduler_pb.Job:
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
    """The trace the job belongs to: that of this request's span, where spans are made, else the caller's."""
    carrier: dict[str, str] = {}
    _TRACE_CONTEXT.inject(carrier)
    return carrier.get("traceparent") or intake.traceparent(sent)


def _unknown(job_id: str) -> NotFound:
    return NotFound("no such job", job_id=job_id)


def moment_of(deadline: Timestamp) -> Timestamp:
    if not 0 <= deadline.seconds < _YEAR_10000 or not 0 <= deadline.nanos < 10**9:
        raise Invalid("the deadline is no moment between 1970 and 9999", field="deadline")
    return deadline


def page_size(asked: int, *, default: int = PAGE_ROWS, most: int = PAGE_ROWS_MAX) -> int:
    if not 0 <= asked <= most:
        raise Invalid(f"a page has 1 to {most} entries", field="page_size")
    return asked or default


def page_token(token: str) -> str:
    if len(token) > _TOKEN_CHARS_MAX or not token.isprintable():
        raise Invalid("the cursor is none that a page returned", field="page_token")
    return token
