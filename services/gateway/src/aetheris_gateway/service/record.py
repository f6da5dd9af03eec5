"""A job's record as the ledger has it: its events, its trace, and whether its chain is intact."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from aetheris_journal import codec
from aetheris_journal.events import EffectInDoubt, EffectStarted, Event, JobCancelled, JobCompleted, JobFailed
from aetheris_kernel.errors import Conflict, Invalid, NotFound
from aetheris_kernel.ids import parse_job_id
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.ledger.v1 import ledger_pb2 as ledger_pb
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb
from google.protobuf.message import DecodeError

from aetheris_gateway import convert, row_check
from aetheris_gateway.core.fork import SourceChain
from aetheris_gateway.core.steps import JobTrace
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
# Each of them may hold as many bytes as the next limit says.
TRACES_AT_ONCE = 4
TRACE_BYTES_MAX = 32 * 1024 * 1024
# Below the 16 MiB of a gRPC message, with room for the rest of the answer.
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
    """A job and its trace. If the record is very long, the trace covers its beginning and `complete` is False."""

    job: scheduler_pb.Job
    trace: JobTrace
    last_seq: int
    complete: bool


@dataclass(frozen=True, slots=True)
class DoubtRecord:
    """Where in the agent's program an effect in doubt stands, why it is in doubt, and with which arguments."""

    path: str = ""
    reason: str = ""
    arguments: bytes = b""


class RecordService:
    def __init__(self, ledger: Ledger, jobs: JobService, draining: asyncio.Event) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._draining = draining
        self._tracing = asyncio.Semaphore(TRACES_AT_ONCE)

    async def read_events(self, caller: Caller, request: pb.ReadEventsRequest) -> pb.ReadEventsResponse:
        size = page_size(request.page_size, default=COMMITS, most=COMMITS_MAX)
        _require_seq(request.after_seq)
        await self._jobs.require(caller, request.job_id)
        page = await self._page(request.job_id, request.after_seq, size)
        return pb.ReadEventsResponse(commits=page.commits, more=page.more)

    async def watch_events(
        self, caller: Caller, request: pb.WatchEventsRequest, *, tick_s: float | None = None
    ) -> AsyncGenerator[pb.WatchEventsResponse | None, None]:
        """Commits as they become durable, until the chain ends; None each time nothing came for `tick_s`."""
        _require_seq(request.after_seq)
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
        async with self._tracing:
            return await self._traced(job, job_id)

    async def _traced(self, job: scheduler_pb.Job, job_id: str) -> TracedJob:
        events: list[Event] = []
        after, size, more = 0, 0, True
        while more and len(events) < TRACE_EVENTS_MAX and size < TRACE_BYTES_MAX:
            page = await self._page(job_id, after, COMMITS)
            for commit in page.commits:
                events += events_of(commit)
                size += len(commit.body)
                after = commit.seq
            more = page.more
        # A long trace takes a while to fold; in a thread it does not hold up other requests.
        trace = trace_of(events) if len(events) < 500 else await asyncio.to_thread(trace_of, events)
        return TracedJob(job, trace, after, not more)

    async def doubt(self, effect: ledger_pb.Effect) -> DoubtRecord:
        """What the record says about an effect in doubt, from the two commits that the effect's row names."""
        intents = [event for event in await self._commit(effect.job_id, effect.seq) if isinstance(event, EffectStarted)]
        intent = next((event for event in intents if event.key == effect.key), None)
        if intent is None:
            return DoubtRecord()
        ends = await self._commit(effect.job_id, effect.outcome_seq) if effect.outcome_seq else ()
        reasons = [event.reason for event in ends if isinstance(event, EffectInDoubt) and event.key == effect.key]
        return DoubtRecord(intent.path, reasons[-1] if reasons else "", intent.arguments)

    async def _commit(self, job_id: str, seq: int) -> Sequence[Event]:
        page = await self._page(job_id, seq - 1, 1)
        return events_of(page.commits[0]) if page.commits else ()

    async def get_trace(self, caller: Caller, request: pb.GetTraceRequest) -> pb.GetTraceResponse:
        traced = await self.trace(caller, request.job_id)
        response = pb.GetTraceResponse(
            job=traced.job, steps=[convert.step_to_wire(step) for step in traced.trace.steps]
        )
        if not traced.complete or response.ByteSize() > ANSWER_BYTES_MAX:
            raise TooLarge("the trace is too long for one answer: read the events page by page", job_id=request.job_id)
        return response

    async def verify(self, caller: Caller, request: pb.VerifyJobRequest) -> pb.VerifyJobResponse:
        """What the ledger found. A chain whose last commits are missing still passes the ledger's check; but the
        scheduler knows how the job ended, and the chain must end the same way. And what the scheduler's row shows must
        be what the chain says."""
        # The scheduler learns of an end only after the chain has it. So ask the scheduler first: if it knows an end, a
        # complete chain has it as well.
        job = (await self._jobs.get(caller, pb.GetJobRequest(job_id=request.job_id))).job
        try:
            found = await self._ledger.verify(request.job_id)
        except NotFound:
            found = ledger_pb.VerifyResponse(intact=True)
        if found.intact and (problem := await self._contradiction(job, found.commits)) is not None:
            found.intact = False
            found.bad_seq, found.problem = problem
        return pb.VerifyJobResponse(verdict=found)

    async def _contradiction(self, job: scheduler_pb.Job, commits: int) -> tuple[int, str] | None:
        """Where a whole chain of so many commits and the scheduler's row of its job differ: commit and problem. Readers
        are shown the row, so a row that was changed must not pass for the record."""
        if commits:
            problem = row_check.beginning(job, (await self._commit(job.job_id, 1))[0])
            if problem is not None:
                return 1, problem
        if job.state not in FINISHED:
            return None
        last = (await self._commit(job.job_id, commits))[-1:] if commits else ()
        if not last or not isinstance(last[0], _ENDS[job.state]):
            cut = f"the job is {STATUSES[job.state]}, but the chain does not end with that: its tail is missing"
            return commits + 1, cut
        problem = row_check.end(job, last[0])
        return None if problem is None else (commits, problem)

    async def history(self, job_id: str) -> SourceChain:
        """The facts about a chain that decide where a fork may part from it."""
        history, more = SourceChain(), True
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


def _require_seq(after_seq: int) -> None:
    if after_seq > SEQ_MAX:
        raise Invalid(f"after_seq is at most {SEQ_MAX}", field="after_seq")
