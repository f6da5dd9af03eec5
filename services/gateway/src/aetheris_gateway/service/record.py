"""The record: a job's events, its trace and whether its chain is whole, all from the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from aetheris_journal import codec
from aetheris_journal.events import Event, JobCancelled, JobCompleted, JobFailed
from aetheris_kernel.errors import Conflict, Invalid, NotFound
from aetheris_kernel.ids import parse_job_id
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.ledger.v1 import ledger_pb2 as ledger_pb
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb
from google.protobuf.message import DecodeError

from aetheris_gateway import convert
from aetheris_gateway.core.fork import History
from aetheris_gateway.core.steps import Trace
from aetheris_gateway.core.trace import trace_of
from aetheris_gateway.identity import Caller
from aetheris_gateway.peers import Ledger
from aetheris_gateway.service.jobs import JobService, page_size
from aetheris_gateway.states import FINISHED, STATUSES
from aetheris_gateway.streams import until_draining

COMMITS = 1_000
COMMITS_MAX = 10_000
SEQ_MAX = 2**63 - 1
TRACE_EVENTS_MAX = 20_000
TRACE_BYTES_MAX = 32 * 1024 * 1024
# What fits into one gRPC message with room to spare.
ANSWER_BYTES_MAX = 12 * 1024 * 1024

_ENDS: dict[int, type[Event]] = {
    scheduler_pb.JOB_STATE_COMPLETED: JobCompleted,
    scheduler_pb.JOB_STATE_FAILED: JobFailed,
    scheduler_pb.JOB_STATE_CANCELLED: JobCancelled,
}


class TooLarge(Conflict):
    reason = "TOO_LARGE"


def events_of(commit: ledger_pb.Commit) -> Sequence[Event]:
    try:
        return codec.decode(commit.body)
    except (ValueError, DecodeError) as unknown:
        problem = f"commit {commit.seq} holds an event of a kind this gateway does not know: upgrade it"
        raise Conflict(problem, seq=commit.seq) from unknown


@dataclass(frozen=True, slots=True)
class TracedJob:
    """A job with what is on record of it, or with the beginning of that where it is very long."""

    job: scheduler_pb.Job
    trace: Trace
    last_seq: int
    complete: bool


class RecordService:
    def __init__(self, ledger: Ledger, jobs: JobService, draining: asyncio.Event) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._draining = draining

    async def read_events(self, caller: Caller, request: pb.ReadEventsRequest) -> pb.ReadEventsResponse:
        size = page_size(request.page_size, default=COMMITS, most=COMMITS_MAX)
        _place(request.after_seq)
        await self._jobs.require(caller, request.job_id)
        page = await self._page(request.job_id, request.after_seq, size)
        return pb.ReadEventsResponse(commits=page.commits, more=page.more)

    async def watch_events(
        self, caller: Caller, request: pb.WatchEventsRequest, *, tick_s: float | None = None
    ) -> AsyncGenerator[pb.WatchEventsResponse | None, None]:
        """Commits as they become durable, until the chain ends; None whenever it was quiet for `tick_s`."""
        _place(request.after_seq)
        await self._jobs.require(caller, request.job_id)
        return self._watching(request, tick_s)

    async def _watching(
        self, request: pb.WatchEventsRequest, tick_s: float | None
    ) -> AsyncGenerator[pb.WatchEventsResponse | None, None]:
        source = self._ledger.watch(request.job_id, request.after_seq)
        async for response in until_draining(source, self._draining, tick_s=tick_s):
            yield None if response is None else pb.WatchEventsResponse(commits=response.commits)

    async def trace(self, caller: Caller, job_id: str) -> TracedJob:
        parse_job_id(job_id)
        job = (await self._jobs.get(caller, pb.GetJobRequest(job_id=job_id))).job
        events: list[Event] = []
        after, size, more = 0, 0, True
        while more and len(events) < TRACE_EVENTS_MAX and size < TRACE_BYTES_MAX:
            page = await self._page(job_id, after, COMMITS)
            for commit in page.commits:
                events += events_of(commit)
                size += len(commit.body)
                after = commit.seq
            more = page.more
        # A long one takes a while, and others are being served.
        trace = trace_of(events) if len(events) < 500 else await asyncio.to_thread(trace_of, events)
        return TracedJob(job, trace, after, not more)

    async def get_trace(self, caller: Caller, request: pb.GetTraceRequest) -> pb.GetTraceResponse:
        told = await self.trace(caller, request.job_id)
        response = pb.GetTraceResponse(job=told.job, steps=[convert.step_to_wire(step) for step in told.trace.steps])
        if not told.complete or response.ByteSize() > ANSWER_BYTES_MAX:
            raise TooLarge("the trace is too long for one answer: read the events page by page", job_id=request.job_id)
        return response

    async def verify(self, caller: Caller, request: pb.VerifyJobRequest) -> pb.VerifyJobResponse:
        """The ledger's verdict. A chain cut off at its end is whole in itself, but the scheduler knows how
        the job ended and the chain must say the same."""
        # The scheduler is told of an end after the chain has it, so it is asked before.
        job = (await self._jobs.get(caller, pb.GetJobRequest(job_id=request.job_id))).job
        try:
            verdict = await self._ledger.verify(request.job_id)
        except NotFound:
            verdict = ledger_pb.VerifyResponse(intact=True)
        if verdict.intact and job.state in FINISHED and not await self._ends_as(job, verdict.commits):
            verdict.intact = False
            verdict.bad_seq = verdict.commits + 1
            verdict.problem = f"the job is {STATUSES[job.state]}, but the chain does not end so: its tail is missing"
        return pb.VerifyJobResponse(verdict=verdict)

    async def _ends_as(self, job: scheduler_pb.Job, commits: int) -> bool:
        if commits == 0:
            return False
        page = await self._page(job.job_id, commits - 1, 1)
        return bool(page.commits) and isinstance(events_of(page.commits[-1])[-1], _ENDS[job.state])

    async def history(self, job_id: str) -> History:
        """What a fork has to know of a chain."""
        history, more = History(), True
        while more:
            page = await self._page(job_id, history.last_seq, COMMITS)
            for commit in page.commits:
                history.see(commit.seq, events_of(commit))
            more = page.more
        return history

    async def _page(self, job_id: str, after_seq: int, size: int) -> ledger_pb.ReadResponse:
        """A page of the chain; a job that has no commit yet has an empty one."""
        try:
            return await self._ledger.read(job_id, after_seq=after_seq, page_size=size)
        except NotFound:
            return ledger_pb.ReadResponse()


def _place(after_seq: int) -> None:
    if after_seq > SEQ_MAX:
        raise Invalid("no chain is that long", field="after_seq")
