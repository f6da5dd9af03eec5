"""The scheduler's store in memory: it runs the lifecycle table itself.

It is deterministic, and the same tests as for PostgreSQL hold it to the contract, so that simulations can rely on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Conflict, NotFound, Refusal

from aetheris_scheduler.core import lifecycle
from aetheris_scheduler.core.claim import AloneClaim, Claim, JobHandover, Slot
from aetheris_scheduler.core.job import OPEN, Job, JobState
from aetheris_scheduler.core.lifecycle import Event, Fire, Lease, Lose, Park, Release, Revoke, Serve, Unserve, Wake
from aetheris_scheduler.core.page import JobListing
from aetheris_scheduler.core.session import Hello, Skills, split_held
from aetheris_scheduler.core.stuck import Diagnosis, diagnose
from aetheris_scheduler.core.submission import Submission, born, queue_full, require_same
from aetheris_scheduler.store.contract import ConnectedRunner, DeployedVersion, Ended, Ends, Look, News, Opened
from aetheris_scheduler.store.tick import (
    ORDERS_IN_SEQUENCE,
    SWEEP_JOBS_MAX,
    SWEEP_SESSIONS_MAX,
    TERMINATE_S,
    JobOrder,
    JobOutcome,
    Leased,
    Lost,
    OrderAnswer,
    Placement,
    Submitted,
    Suspects,
    Sweep,
    Tick,
    Ticked,
)


@dataclass(slots=True)
class _SessionRow:
    hello: Hello
    lease_deadline: datetime
    draining: bool = False
    expired: bool = False
    suspects: frozenset[UUID] | None = None
    # The jobs that it held when it expired.
    lost: frozenset[UUID] = frozenset()


class MemoryStore:
    """Tests may read `jobs`, and write it between ticks, to reach a certain state."""

    def __init__(self, clock: Clock) -> None:
        self.jobs: dict[UUID, Job] = {}
        # By parent, its children in the order in which they ended.
        self._ends: dict[UUID, list[UUID]] = {}
        self._keys: dict[tuple[str, str, str], UUID] = {}
        self._sessions: dict[UUID, _SessionRow] = {}
        self._clock = clock

    async def tick(self, tick: Tick) -> Ticked:
        ticked = Ticked()
        for suspects in tick.suspects:
            self._suspect(suspects)
        open_before = [outcome.job for outcome in tick.outcomes if not self._ended(outcome.job)]
        ticked.settled = [self._settle(outcome, ticked) for outcome in tick.outcomes]
        self._wake_parents({job for job in open_before if self._ended(job)}, ticked)
        if tick.versions or any(_wants(outcome) for outcome in tick.outcomes):
            self._serve_versions(ticked)
        for handover in tick.handovers:
            self._hand_over(handover, ticked)
        if tick.sweep is not None:
            self._sweep(tick.sweep, ticked)
        ticked.submitted = [self._submit(placement, tick.queue_ready_max, ticked) for placement in tick.placements]
        in_order = sorted(tick.orders, key=lambda order: ORDERS_IN_SEQUENCE.index(type(order.what)))
        answers = {order: self._order(order, ticked) for order in dict.fromkeys(in_order)}
        ticked.ordered = [answers[order] for order in tick.orders]
        ticked.ending = self._claim_ending(tick.ending, ticked)
        if tick.alone is not None:
            ticked.alone = self._claim_alone(tick.alone, ticked)
        ticked.claimed = [self._claim(claim, ticked) for claim in tick.claims]
        ticked.cut_at = [None for _ in tick.claims]
        return ticked

    async def open(self, hello: Hello, *, lease_s: float) -> Opened:
        row = self._sessions.get(hello.session)
        if row is not None and (row.expired or row.lease_deadline <= self._clock.now()):
            raise Conflict("this session has expired; start a new one", session_id=hello.session)
        draining = row is not None and row.draining
        self._sessions[hello.session] = _SessionRow(hello, self._clock.now() + timedelta(seconds=lease_s), draining)
        leased = [(job.id, job.lease) for job in self._held_by(hello.session)]
        kept, unreceived = split_held(hello.held, leased)
        for job in unreceived:
            self._apply(job, Revoke())
        for job in kept:
            self.jobs[job] = replace(self.jobs[job], runner_id=hello.runner_id)
        return Opened(kept, draining, bool(unreceived))

    async def renew(self, sessions: Sequence[tuple[UUID, UUID]], *, lease_s: float) -> Mapping[UUID, bool]:
        renewed = {}
        for session, stream in sessions:
            row = self._speaking(session, stream)
            if row is not None:
                row.lease_deadline = self._clock.now() + timedelta(seconds=lease_s)
                renewed[session] = row.draining
        return renewed

    async def leave(self, session: UUID, stream: UUID, *, grace_s: float) -> bool:
        row = self._speaking(session, stream)
        if row is None:
            return False
        if not self._held_by(session):
            del self._sessions[session]
            return True
        row.lease_deadline = min(row.lease_deadline, self._clock.now() + timedelta(seconds=grace_s))
        return False

    async def drain(self, session: UUID) -> None:
        row = self._sessions.get(session)
        if row is None or row.expired:
            raise NotFound("no such session", session_id=session)
        row.draining = True

    async def leased_to(self, sessions: Sequence[UUID]) -> Sequence[Job]:
        return [job for session in sessions for job in self._held_by(session)]

    async def look(self, sessions: Sequence[UUID], *, keep: Sequence[UUID]) -> Look:
        jobs = self.jobs.values()
        timers = [job.wake_at for job in jobs if job.state is JobState.PARKED and job.wake_at is not None]
        deadlines = [job.deadline for job in jobs if job.deadline is not None and _may_be_cancelled(job)]
        leases = [
            row.lease_deadline for session, row in self._sessions.items() if not row.expired and session not in keep
        ]
        held = [job for session in sessions for job in self._held_by(session)]
        return Look(
            now=self._clock.now(),
            lanes=sorted({(job.agent, job.queue) for job in jobs if _claimable(job) and not job.runs_alone}),
            wake_at=min(timers, default=None),
            deadline=min(deadlines, default=None),
            lease_deadline=min(leases, default=None),
            ending=any(self._ends_anywhere(job) for job in jobs),
            terminate_at=min((asked for _, asked in self._terminating()), default=None),
            alone=sorted({(job.agent, job.queue) for job in jobs if _claimable(job) and job.runs_alone}),
            versions=bool(self._version_changes()),
            news=[
                News(job.id, job.lease, job.session, kinds)
                for job in held
                if job.session is not None
                and (kinds := lifecycle.news(job.wake, job.cancel, job.paused, job.terminate))
            ],
        )

    async def get(self, jobs: Sequence[UUID]) -> Mapping[UUID, Job]:
        return {job: self.jobs[job] for job in jobs if job in self.jobs}

    async def ended(self, jobs: Sequence[UUID]) -> Collection[UUID]:
        return {job for job in jobs if job in self.jobs and self.jobs[job].state.ended}

    async def ends(self, asked: Ends) -> Ended:
        known = self._ends.get(asked.parent, [])
        first = len(known) if asked.after is None else asked.after
        last = min(first + asked.limit, len(known))
        named = {job for job in asked.named if self._ended(job) and self.jobs[job].parent == asked.parent}
        return Ended(named.union(known[first:last]), max(first, last), last < len(known))

    async def list_jobs(self, listing: JobListing) -> Sequence[Job]:
        found = [
            replace(job, input=b"", result=None)
            for job in self.jobs.values()
            if job.tenant == listing.tenant
            and (not listing.states or job.state in listing.states)
            and listing.agent in ("", job.agent)
            and listing.queue in ("", job.queue)
            and listing.parent in (None, job.parent)
            and (listing.before is None or job.id < listing.before)
        ]
        found.sort(key=lambda job: job.id, reverse=True)
        return found[: listing.limit]

    async def stuck(
        self, tenant: str, after: tuple[datetime, UUID] | None, limit: int, *, patience: timedelta
    ) -> Sequence[Diagnosis]:
        jobs = (replace(job, input=b"", result=None) for job in self.jobs.values() if job.tenant == tenant)
        found = [found for job in jobs if (found := diagnose(job, self._clock.now(), patience)) is not None]
        found.sort(key=lambda one: (one.since, one.job.id))
        return [one for one in found if after is None or (one.since, one.job.id) > after][:limit]

    async def runners(self, after: tuple[str, UUID] | None, limit: int) -> Sequence[ConnectedRunner]:
        found = [
            ConnectedRunner(
                session=session,
                runner_id=row.hello.runner_id,
                agents=row.hello.agents,
                capacity=row.hello.capacity,
                held=len(self._held_by(session)),
                lease_deadline=row.lease_deadline,
                draining=row.draining,
                versions=row.hello.versions,
            )
            for session, row in self._sessions.items()
            if not row.expired and (after is None or (row.hello.runner_id, session) > after)
        ]
        return sorted(found, key=lambda runner: (runner.runner_id, runner.session))[:limit]

    async def deployments(
        self, tenant: str, agent: str, after: tuple[str, str], limit: int
    ) -> Sequence[DeployedVersion]:
        open_jobs = [job for job in self.jobs.values() if job.state in OPEN and tenant in ("", job.tenant)]
        jobs = Counter((job.agent, job.version) for job in open_jobs)
        wanted = Counter((job.agent, job.version) for job in open_jobs if job.pinned)
        runners = Counter(
            (name, row.hello.versions.get(name, ""))
            for row in self._sessions.values()
            if not row.expired
            for name in {*row.hello.agents, *row.hello.versions}
        )
        known = sorted({*jobs, *runners})
        return [
            DeployedVersion(*key, runners=runners[key], open_jobs=jobs[key], wanted_by_jobs=wanted[key])
            for key in known
            if key > after and agent in ("", key[0])
        ][:limit]

    async def count_ready(self, limit: int) -> int:
        return min(sum(map(_claimable, self.jobs.values())), limit)

    # The parts of a tick.

    def _settle(self, outcome: JobOutcome, ticked: Ticked) -> bool:
        job = self.jobs.get(outcome.job)
        if job is None:
            return False
        if not lifecycle.holds(job, outcome.session, outcome.lease):
            return lifecycle.repeats(job.state, job.lease, outcome.lease)
        self._apply(job.id, outcome.what, ticked)
        return True

    def _ended(self, job: UUID) -> bool:
        return job in self.jobs and self.jobs[job].state.ended

    def _wake_parents(self, ended: Collection[UUID], ticked: Ticked) -> None:
        for child in sorted(ended):
            parent = self.jobs[child].parent
            if parent is not None and parent in self.jobs and not self._ended(parent):
                self._ends.setdefault(parent, []).append(child)
                if parent not in ticked.parents:
                    ticked.parents.append(parent)
        ticked.parents.sort()
        ticked.woken = [self._order(JobOrder(parent, Wake()), ticked) for parent in ticked.parents]

    def _hand_over(self, handover: JobHandover, ticked: Ticked) -> None:
        if not self._is_alive(handover.slot):
            return
        for job_id in sorted(handover.jobs):
            job = self.jobs.get(job_id)
            skills, slot = handover.skills, handover.slot
            if job is not None and _claimable(job) and not job.runs_alone and self._takes(skills, slot, job):
                leased = self._apply(job_id, self._lease(slot, job))
                ticked.leased.append(Leased(leased, 0.0))
                ticked.readied -= 1

    def _sweep(self, sweep: Sweep, ticked: Ticked) -> None:
        now = self._clock.now()
        if sweep.sessions:
            self._expire(sweep, ticked)
        if sweep.terminations:
            late = [job for job, asked in self._terminating() if now - asked >= timedelta(seconds=TERMINATE_S)]
            for job in sorted(late, key=lambda job: job.id)[:SWEEP_JOBS_MAX]:
                assert job.session is not None
                self._apply(job.id, Revoke(), ticked)
                ticked.lost.append(Lost(job.session, job.id, job.lease, False))
        if sweep.timers:
            due = sorted(
                (job.wake_at, job.id)
                for job in self.jobs.values()
                if job.state is JobState.PARKED and job.wake_at is not None and job.wake_at <= now
            )
            for _, job_id in due[:SWEEP_JOBS_MAX]:
                self._apply(job_id, Fire(), ticked)
            ticked.more |= len(due) >= SWEEP_JOBS_MAX
        if sweep.deadlines:
            overdue = [
                (job.deadline, job.id)
                for job in self.jobs.values()
                if job.deadline is not None and job.deadline <= now and _may_be_cancelled(job)
            ]
            for _, job_id in sorted(overdue)[:SWEEP_JOBS_MAX]:
                ticked.overdue_jobs.append(job_id)
                ticked.overdue.append(self._order(JobOrder(job_id, lifecycle.DEADLINE_PASSED), ticked))
            ticked.more |= len(overdue) >= SWEEP_JOBS_MAX

    def _expire(self, sweep: Sweep, ticked: Ticked) -> None:
        now = self._clock.now()
        gone = sorted(
            (row.lease_deadline, session)
            for session, row in self._sessions.items()
            if not row.expired and row.lease_deadline <= now and session not in sweep.keep
        )
        for _, session in gone[:SWEEP_SESSIONS_MAX]:
            row = self._sessions[session]
            row.expired = True
            ticked.expired.append(session)
            held = self._held_by(session)
            row.lost = frozenset(job.id for job in held)
            alone = len(held) == 1 or (row.suspects is not None and len(row.suspects) == 1)
            for job in held:
                suspect = row.suspects is None or job.id in row.suspects
                after = self._apply(job.id, Lose(sweep.crash_limit, alone, suspect), ticked)
                ticked.lost.append(Lost(session, job.id, job.lease, after.state is JobState.PARKED))
        ticked.more |= len(gone) >= SWEEP_SESSIONS_MAX

    def _submit(self, placement: Placement, queue_ready_max: int, ticked: Ticked) -> Submitted | Refusal:
        submission = placement.submission
        existing = self._known(submission)
        if existing is not None:
            try:
                require_same(submission, existing)
            except Refusal as refusal:
                return refusal
            return Submitted(replace(existing, input=b"", result=None), created=False)
        job = born(submission, self._clock.now())
        alive = placement.slot is not None and self._is_alive(placement.slot)
        waits = placement.slot is None and submission.start_after is None
        if waits and self._full(job.queue, queue_ready_max):
            return queue_full(job.queue, queue_ready_max)
        self.jobs[job.id] = job
        if job.idempotency_key:
            self._keys[job.tenant, job.agent, job.idempotency_key] = job.id
        source = None if job.fork is None or not job.fork.retry else self.jobs.get(job.fork.from_job)
        if source is not None and source.tenant == job.tenant and source.state is JobState.FAILED:
            self.jobs[source.id] = replace(source, retried_as=job.id)
        if job.state is JobState.READY:
            if placement.slot is not None and alive:
                job = self._apply(job.id, self._lease(placement.slot, job))
            else:
                ticked.readied += 1
        return Submitted(job, created=True)

    def _known(self, submission: Submission) -> Job | None:
        key = (submission.tenant, submission.agent, submission.idempotency_key)
        by_key = self._keys.get(key) if submission.idempotency_key else None
        return self.jobs.get(submission.id if by_key is None else by_key)

    def _full(self, queue: str, queue_ready_max: int) -> bool:
        waiting = sum(1 for job in self.jobs.values() if job.queue == queue and _claimable(job))
        return 0 < queue_ready_max <= waiting

    def _order(self, order: JobOrder, ticked: Ticked) -> OrderAnswer:
        job = self.jobs.get(order.job)
        if job is None:
            return OrderAnswer(JobState.READY, refused=NotFound("no such job", job_id=order.job))
        transition = lifecycle.decide(job, order.what)
        after = self._apply(job.id, order.what, ticked)
        refused = lifecycle.refusal(job.state, order.what)
        return OrderAnswer(after.state, refused, transition.notice, after.session, after.lease)

    def _claim(self, claim: Claim, ticked: Ticked) -> int | None:
        if not claim.always and not ticked.readied:
            return None
        slots = [slot for slot in claim.slots if self._is_alive(slot)]
        if not slots:
            return 0
        ready = [
            job
            for job in self.jobs.values()
            if _claimable(job) and not job.runs_alone and self._takes(claim.skills, slots[0], job)
        ]
        ready.sort(key=lambda job: (job.place, job.id))
        turns: Counter[str] = Counter(claim.held)
        in_turn: list[tuple[int, datetime, UUID]] = []
        for job in ready:
            turns[job.tenant] += 1
            in_turn.append((turns[job.tenant], job.place, job.id))
        for (_, __, job_id), slot in zip(sorted(in_turn), slots, strict=False):
            since = self.jobs[job_id].since
            leased = self._apply(job_id, self._lease(slot, self.jobs[job_id]))
            ticked.leased.append(Leased(leased, (leased.since - since).total_seconds()))
        return min(len(ready), len(slots))

    def _claim_alone(self, claim: AloneClaim, ticked: Ticked) -> UUID | None:
        if not self._is_alive(claim.slot) or self._held_by(claim.slot.session):
            return None
        waiting = [
            job
            for job in self.jobs.values()
            if _claimable(job) and job.runs_alone and self._takes(claim.skills, claim.slot, job)
        ]
        if not waiting:
            return None
        job = min(waiting, key=lambda job: (job.place, job.id))
        leased = self._apply(job.id, self._lease(claim.slot, job))
        ticked.leased.append(Leased(leased, (leased.since - job.since).total_seconds()))
        return job.id

    def _takes(self, skills: Skills, slot: Slot, job: Job) -> bool:
        """Whether a session with these skills is given the job. A job that some version held last waits for a runner of
        that version, while there is one."""
        if not skills.cover(job.agent, job.queue):
            return False
        mine = slot.versions.get(job.agent, "")
        if job.pinned:
            return mine == job.version
        return not job.version or not mine or mine == job.version or not self._offered(job)

    def _lease(self, slot: Slot, job: Job) -> Lease:
        return Lease(slot.session, slot.runner_id, slot.versions.get(job.agent, ""))

    def _offered(self, job: Job) -> bool:
        """Whether a connected runner offers the version that held the job last."""
        return any(row.hello.versions.get(job.agent) == job.version for row in self._connected())

    def _connected(self) -> list[_SessionRow]:
        return [row for row in self._sessions.values() if not row.expired and not row.draining]

    def _version_changes(self) -> list[tuple[UUID, Serve | Unserve]]:
        changes: list[tuple[UUID, Serve | Unserve]] = []
        for job in self.jobs.values():
            if job.pinned and job.state is JobState.PARKED and job.operator_only and self._offered(job):
                changes.append((job.id, Serve()))
            elif job.pinned and job.state is JobState.READY and not job.cancel and not self._offered(job):
                changes.append((job.id, Unserve()))
        return changes

    def _serve_versions(self, ticked: Ticked) -> None:
        for job_id, change in self._version_changes():
            self._apply(job_id, change, ticked)

    def _suspect(self, suspects: Suspects) -> None:
        row = self._sessions.get(suspects.session)
        if row is None or (row.expired and row.suspects is not None):
            return
        row.suspects = suspects.jobs
        for job_id in row.lost - suspects.jobs:
            job = self.jobs[job_id]
            if job.state in OPEN and not job.operator_only:
                self.jobs[job_id] = replace(job, crash_count=max(job.crash_count - 1, 0))

    def _claim_ending(self, ending: Sequence[Slot], ticked: Ticked) -> int:
        jobs = sorted(
            (job for job in self.jobs.values() if self._ends_anywhere(job)),
            key=lambda job: (
                not job.terminate,
                job.agent,
                job.queue,
                job.version if job.pinned else "",
                job.since,
                job.id,
            ),
        )
        slots = [slot for slot in ending if self._is_alive(slot)]
        for job, slot in zip(jobs, slots, strict=False):
            leased = self._apply(job.id, Lease(slot.session, slot.runner_id))
            ticked.leased.append(Leased(leased, (leased.since - job.since).total_seconds()))
        return min(len(jobs), len(slots))

    def _ends_anywhere(self, job: Job) -> bool:
        """A runner that offers the agent is preferred for a cancel, because it can compensate."""
        return _claimable(job) and job.ends_anywhere and (job.terminate or not self._served(job))

    def _served(self, job: Job) -> bool:
        return any(
            row.hello.skills.cover(job.agent, job.queue)
            and (not job.pinned or row.hello.versions.get(job.agent) == job.version)
            for row in self._connected()
        )

    def _terminating(self) -> Sequence[tuple[Job, datetime]]:
        """The jobs that their holders are to terminate, and since when."""
        held = (job for job in self.jobs.values() if job.state is JobState.LEASED and job.terminate)
        return [(job, job.end_asked_at) for job in held if job.end_asked_at is not None]

    def _apply(self, job_id: UUID, event: Event, ticked: Ticked | None = None) -> Job:
        before = self.jobs[job_id]
        after = self.jobs[job_id] = lifecycle.evolve(before, event, self._clock.now())
        if ticked is not None and _claimable(after) and not _claimable(before):
            ticked.readied += 1
        return after

    def _held_by(self, session: UUID) -> list[Job]:
        return [job for job in self.jobs.values() if job.session == session]

    def _speaking(self, session: UUID, stream: UUID) -> _SessionRow | None:
        row = self._sessions.get(session)
        return row if row is not None and row.hello.stream == stream and not row.expired else None

    def _is_alive(self, slot: Slot) -> bool:
        return self._speaking(slot.session, slot.stream) is not None


def _wants(outcome: JobOutcome) -> bool:
    return isinstance(outcome.what, (Park, Release)) and bool(outcome.what.wants)


def _claimable(job: Job) -> bool:
    return job.state is JobState.READY and not job.paused


def _may_be_cancelled(job: Job) -> bool:
    return not job.state.ended and not job.cancel
