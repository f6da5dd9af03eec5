"""The runner's session with the schedulers: one stream, and one time limit for the leases of all its jobs.

    Hello ──► Welcome ──► Beat ─► Renewal …  assignments down, outcomes up
       ▲                     │
       └── stream lost ◄─────┘   the session keeps its jobs while its own clock says the lease runs

The leases run from the moment when the last answered Beat was sent, by this process's monotonic clock. When they are
over, the runner stops its jobs by itself, a margin before the scheduler may lease them to another runner.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol
from uuid import UUID

import grpc
import structlog
from aetheris_chassis.client import retrying
from aetheris_chassis.streams import converse
from aetheris_engine import ports
from aetheris_engine.core.fork import Fork
from aetheris_journal import codec
from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Conflict, Refusal
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb
from aetheris_proto.scheduler.v1 import scheduler_pb2_grpc as rpc

from aetheris_runner.peers.work_frames import WorkFrames
from aetheris_runner.stall import Stall, StallWatch

log = structlog.get_logger()

_RECONNECT_S, _RECONNECT_MAX_S = 0.05, 1.0

# How long the runner tries to get the reason of a cancel before it cancels the job without a reason.
_REASON_S = 2.0

# How long the runner tries to tell the scheduler which session its jobs go to.
_HANDOVER_S = 2.0

# How often the timers that notice a stall are set again, and the lease that they assume before a scheduler names it.
_SET_AGAIN_S, _LEASE_UNKNOWN_S = 0.5, 5.0

# The part of a lease that the runner does not use, so that clocks of slightly different speed cannot make two leases
# overlap.
_MARGIN = 0.1

# What this runner understands beside the first release's protocol.
_FEATURES = (pb.FEATURE_END_WITHOUT_CODE, pb.FEATURE_TERMINATE)

# The scheduler refuses a first frame that names more jobs.
_NAMED_MAX = 10_000


class Jobs(Protocol):
    """The jobs that this runner holds."""

    @property
    def held(self) -> Sequence[tuple[UUID, int]]: ...

    def assign(self, assignment: ports.Assignment) -> None: ...

    def notice(self, job_id: UUID, lease: int, notice: ports.Notice) -> None: ...

    def lose(self, job_id: UUID, lease: int) -> None: ...

    def lose_all(self) -> None: ...

    def drain(self) -> None: ...


class _NoJobs:
    """Stands for the jobs of a session that does not run yet."""

    held: Sequence[tuple[UUID, int]] = ()

    def assign(self, assignment: ports.Assignment) -> None: ...

    def notice(self, job_id: UUID, lease: int, notice: ports.Notice) -> None: ...

    def lose(self, job_id: UUID, lease: int) -> None: ...

    def lose_all(self) -> None: ...

    def drain(self) -> None: ...


NO_JOBS = _NoJobs()


@dataclass(slots=True)
class _Unsettled:
    message: pb.Outcome
    effective: asyncio.Future[bool]


class Session:
    def __init__(
        self,
        channel: grpc.aio.Channel,
        clock: Clock,
        *,
        runner_id: str,
        agents: Sequence[str],
        queues: Sequence[str],
        capacity: int,
        session_id: str = "",
        stalls: StallWatch | None = None,
        versions: Mapping[str, str] | None = None,
    ) -> None:
        self._stub = rpc.SchedulerStub(channel)
        self._clock = clock
        # Set by `run`, because the jobs are built with the session that they report to.
        self._jobs: Jobs = NO_JOBS
        self._runner_id, self._agents, self._queues, self._capacity = runner_id, agents, queues, capacity
        # By agent: the version of its code.
        self._versions = versions or {}
        self._session_id = session_id or str(uuid.uuid4())
        self.welcomed = asyncio.Event()
        self._due = asyncio.Event()
        self._frames = WorkFrames()
        self._unsettled: dict[tuple[str, int], _Unsettled] = {}
        self._progressing: Counter[tuple[str, int]] = Counter()
        self._beats: dict[int, float] = {}
        self._beat = 0
        self._lease_s = 0.0
        # Until when the leases last for certain, by this process's monotonic clock. Any thread may read it.
        self.alive_until = float("inf")
        self._leaving = False
        self._stalls = stalls
        # The last stall, and when it was found.
        self._stall: Stall | None = None
        self._stalled_at = 0.0
        # The jobs that are suspected of the end of an earlier session. Named again until a scheduler has heard it.
        self._suspects: list[pb.Suspects] = []
        self._call: grpc.aio.StreamStreamCall[pb.WorkRequest, pb.WorkResponse] | None = None

    # Called by the held jobs.

    def outcome(self, job_id: UUID, lease: int, outcome: ports.Outcome) -> asyncio.Future[bool]:
        """Report an outcome until the scheduler acknowledges it. The future is True if the outcome took effect. The
        job's place is free again at once."""
        message = _to_outcome(job_id, lease, outcome)
        effective: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._unsettled[message.job_id, lease] = _Unsettled(message, effective)
        self._frames.outcome(message)
        self.free()
        return effective

    def progressed(self, job_id: UUID, lease: int, fraction: float | None, note: str) -> None:
        """Report progress. It is sent only once: if it is lost, the scheduler may count one crash too many."""
        message = pb.Outcome(job_id=str(job_id), lease=lease, progressed=pb.Progressed(fraction=fraction, note=note))
        self._progressing[message.job_id, lease] += 1
        self._frames.outcome(message)
        self._due.set()

    async def cancel_reason(self, job_id: UUID) -> str:
        """The reason of a cancel, from the scheduler, because a notice does not carry it. Empty if the scheduler does
        not answer in time."""
        request = pb.GetRequest(job_id=str(job_id))
        try:
            answer = await retrying(lambda: self._stub.Get(request, timeout=1), deadline_s=_REASON_S)
        except Refusal as refusal:
            log.warning("the reason of a cancel is not to be had", job_id=str(job_id), problem=refusal.message)
            return ""
        return str(answer.job.failure.message)

    def free(self) -> None:
        """Ask the scheduler for one more job."""
        if not self._leaving:
            self._frames.credit()
        self._due.set()

    async def hand_over_to(self, successor: str) -> None:
        """Ask the scheduler to lease the jobs handed back from now on to that session. If the request fails, any runner
        may get them."""
        request = pb.HandoverRequest(session_id=self._session_id, successor_session_id=successor)
        try:
            answer = await retrying(lambda: self._stub.Handover(request, timeout=1), deadline_s=_HANDOVER_S)
        except Refusal as refusal:
            log.warning("successor not named", successor=successor, problem=refusal.message)
        else:
            log.info("heir named", successor=successor, held=answer.held)

    def leave(self) -> None:
        """Take no more jobs. Credits that were sent may still bring one, which is handed back."""
        self._leaving = True

    async def settled(self) -> None:
        """Wait until the scheduler has acknowledged every outcome."""
        waiting = [unsettled.effective for unsettled in self._unsettled.values()]
        if waiting:
            await asyncio.wait(waiting)

    def suspect(self, session_id: str, job_ids: Sequence[UUID]) -> None:
        """Name the jobs that are suspected of the end of a session: soon, and again until a scheduler has heard it."""
        suspects = pb.Suspects(session_id=session_id, job_ids=[str(job_id) for job_id in job_ids])
        self._suspects.append(suspects)
        self._frames.suspects([suspects])
        self._due.set()

    # The stream and the heartbeats.

    async def run(self, jobs: Jobs) -> None:
        self._jobs = jobs
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_connected(), name="session")
            tasks.create_task(self._keep_alive(), name="beats")
            tasks.create_task(self._watch_lease(), name="lease")
            if self._stalls is not None:
                self._stalls.begin(self._session_id)
                tasks.create_task(self._watch_stalls(self._stalls), name="stalls")

    async def _keep_connected(self) -> None:
        pause = _RECONNECT_S
        while True:
            beats = self._beat
            self._say_hello()
            self._due.set()
            self._call = self._stub.Work()
            end = await converse(self._call, self._next_frame, self._heard)
            if isinstance(end, Conflict):
                log.warning("session refused", session_id=self._session_id, error=end.message)
                self._begin_new_session()
            else:
                log.warning("session lost", error=end.message if end else "goodbye", held=len(self._jobs.held))
            pause = _RECONNECT_S if self._beat > beats + 1 else min(pause * 2, _RECONNECT_MAX_S)
            await asyncio.sleep(pause)

    def _say_hello(self) -> None:
        self._progressing.clear()
        held = self._jobs.held
        room = 0 if self._leaving else max(self._capacity - len(held), 0)
        # The scheduler takes back a job that a returning session does not name. Outcomes that do not fit into the first
        # frame come later, so their jobs are named, too.
        named = dict.fromkeys([*((str(job_id), lease) for job_id, lease in held), *self._unsettled])
        hello = pb.Hello(
            session_id=self._session_id,
            runner_id=self._runner_id,
            agents=self._agents,
            offers=[pb.Offer(agent=agent, version=version) for agent, version in self._versions.items()],
            features=_FEATURES,
            queues=self._queues,
            capacity=self._capacity,
            held=[pb.Held(job_id=job_id, lease=lease) for job_id, lease in islice(named, _NAMED_MAX)],
        )
        outcomes = [unsettled.message for unsettled in self._unsettled.values()]
        self._frames.begin(hello, self._next_beat(), outcomes, room)
        self._frames.suspects(self._suspects)

    async def _next_frame(self) -> pb.WorkRequest:
        await self._due.wait()
        frame = self._frames.take()
        if not self._frames.waiting:
            self._due.clear()
        return frame

    def _next_beat(self) -> pb.Beat:
        self._beat += 1
        self._beats[self._beat] = self._clock.monotonic()
        return pb.Beat(number=self._beat)

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 4 if self._lease_s else 0.5)
            if self._lease_s:
                self._frames.beat(self._next_beat())
                self._due.set()

    async def _watch_lease(self) -> None:
        while True:
            left = self.alive_until - self._clock.monotonic()
            if left <= 0:
                log.error("lease over", session_id=self._session_id, held=len(self._jobs.held))
                self._begin_new_session()
                continue
            await asyncio.sleep(min(left, 0.25))

    async def _watch_stalls(self, stalls: StallWatch) -> None:
        while True:
            self._look_for_stall(stalls)
            stalls.set_again(self._lease_s or _LEASE_UNKNOWN_S)
            await asyncio.sleep(_SET_AGAIN_S)

    def _look_for_stall(self, stalls: StallWatch) -> None:
        stall = stalls.take()
        if stall is not None:
            log.warning("code has held the interpreter", jobs=len(stall.job_ids), stack=stall.trace)
            self._stall, self._stalled_at = stall, self._clock.monotonic()

    def _begin_new_session(self) -> None:
        """The leases have run out: drop every job, and connect again under a new session id."""
        if self._call is not None:
            self._call.cancel()
        self._jobs.lose_all()
        for unsettled in self._unsettled.values():
            if not unsettled.effective.done():
                unsettled.effective.set_result(False)
        self._unsettled.clear()
        session_id, self._session_id = self._session_id, str(uuid.uuid4())
        if self._stalls is not None:
            self._look_for_stall(self._stalls)
            self._stalls.begin(self._session_id)
            # A stall of a while ago has not cost the session.
            recent = self._clock.monotonic() - self._stalled_at < self._lease_s
            if self._stall is not None and self._stall.job_ids and recent:
                self.suspect(session_id, self._stall.job_ids)
            self._stall = None
        self.alive_until = float("inf")

    def _heard(self, response: pb.WorkResponse) -> None:
        if response.HasField("welcome"):
            self._lease_s = codec.from_duration(response.welcome.lease).total_seconds()
            self.welcomed.set()
            self._suspects.clear()
            for lost in response.welcome.lost:
                self._jobs.lose(UUID(lost.job_id), lost.lease)
        if response.HasField("renewal"):
            self._renewed(response.renewal.beat)
        for settled in response.settled:
            said = (settled.job_id, settled.lease)
            if self._progressing[said]:
                # The scheduler answers in the order of the reports, and the first answers belong to the progress.
                self._progressing[said] -= 1
                continue
            del self._progressing[said]
            unsettled = self._unsettled.pop(said, None)
            if unsettled is not None and not unsettled.effective.done():
                unsettled.effective.set_result(settled.effective)
        for notice in response.notices:
            self._jobs.notice(UUID(notice.job_id), notice.lease, ports.Notice(notice.kind))
        for assignment in response.assignments:
            self._jobs.assign(_from_assignment(assignment))
        if response.drain:
            self._jobs.drain()

    def _renewed(self, beat: int) -> None:
        sent = self._beats.get(beat)
        if sent is not None and self._lease_s:
            self.alive_until = sent + self._lease_s * (1 - _MARGIN)
        self._beats = {number: at for number, at in self._beats.items() if number > beat}


def _to_outcome(job_id: UUID, lease: int, outcome: ports.Outcome) -> pb.Outcome:
    message = pb.Outcome(job_id=str(job_id), lease=lease)
    match outcome:
        case ports.Parked(reason=reason, wake_at=wake_at, operator=operator, wants_version=wants):
            wake_time = None if wake_at is None else codec.to_timestamp(wake_at)
            parked = pb.Parked(reason=reason[:1_024], wake_time=wake_time, operator=operator, wants_version=wants)
            message.parked.CopyFrom(parked)
        case ports.Completed(result=result):
            message.ended.CopyFrom(pb.Ended(state=pb.JOB_STATE_COMPLETED, result=result))
        case ports.Failed(failure=failure):
            message.ended.CopyFrom(pb.Ended(state=pb.JOB_STATE_FAILED, failure=codec.to_failure(failure)))
        case ports.Cancelled(reason=reason):
            cancelled = pb.Ended(state=pb.JOB_STATE_CANCELLED)
            cancelled.failure.type, cancelled.failure.message = "Cancelled", reason
            message.ended.CopyFrom(cancelled)
        case ports.Released(reason=reason, delay=delay, needs_code=needs_code):
            released = pb.Released(reason=reason[:1_024], delay=codec.to_duration(delay), needs_code=needs_code)
            message.released.CopyFrom(released)
    return message


def _from_assignment(assignment: pb.Assignment) -> ports.Assignment:
    job = assignment.job
    return ports.Assignment(
        job_id=UUID(job.job_id),
        tenant=job.tenant,
        agent=job.agent,
        queue=job.queue,
        input=job.input,
        lease=job.lease,
        lease_time=codec.from_timestamp(assignment.lease_time),
        crash_count=job.crash_count,
        cancel_requested=job.cancel_requested,
        cancel_reason=job.failure.message,
        terminate=assignment.HasField("terminate"),
        parent_job_id=job.parent_job_id,
        idempotency_key=job.idempotency_key,
        actor=job.actor,
        fork=_from_fork(job.fork) if job.HasField("fork") else None,
    )


def _from_fork(fork: pb.Fork) -> Fork:
    return Fork(UUID(fork.from_job_id), fork.at_seq, fork.effects, fork.before_path)
