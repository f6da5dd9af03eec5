"""Writes one tick to PostgreSQL: at most one statement of each kind, all in one transaction.

Statements with nothing to do are not sent, and a tick of one statement needs no explicit transaction, so a lone
submission costs one round trip. Statements touch rows in the order of their ids, so that two schedulers rarely
deadlock; where they do, the tick is sent again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from uuid import UUID

import asyncpg
from aetheris_chassis.postgres import Connection
from aetheris_chassis.queries import Queries
from aetheris_kernel.errors import NotFound, Refusal, Unavailable

from aetheris_scheduler.core import lifecycle
from aetheris_scheduler.core.claim import LANES_MAX, AloneClaim, Claim, JobHandover, Lane, Slot
from aetheris_scheduler.core.job import JobState
from aetheris_scheduler.core.lifecycle import (
    Cancel,
    End,
    Order,
    Park,
    Pause,
    Progress,
    Release,
    Requeue,
    Resume,
    Terminate,
    Wake,
)
from aetheris_scheduler.core.submission import Submission, queue_full, require_same
from aetheris_scheduler.store import rows
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
    Sweep,
    Tick,
    Ticked,
)


def statements_max(tick: Tick) -> int:
    """The most statements that change rows which this tick can need."""
    reports = {isinstance(outcome.what, Progress) for outcome in tick.outcomes}
    orders = {type(order.what) for order in tick.orders}
    claims = [claim for claim in tick.claims if claim.always or tick.may_ready]
    sweep = tick.sweep or Sweep()
    swept = sweep.terminations + sweep.timers + 2 * sweep.deadlines + 2 * sweep.sessions
    # A job that ends may be a child, and then its parent is woken too.
    ended = any(isinstance(outcome.what, End) for outcome in tick.outcomes)
    retries = any(placed.submission.fork and placed.submission.fork.retry for placed in tick.placements)
    leasing = len(tick.handovers) + bool(tick.placements) + bool(tick.ending) + (tick.alone is not None) + len(claims)
    serving = tick.versions or any(_wanted(outcome) for outcome in tick.outcomes)
    return len(tick.suspects) + retries + len(reports) + ended + serving + swept + len(orders) + leasing


def _wanted(outcome: JobOutcome) -> str:
    return outcome.what.wants if isinstance(outcome.what, (Park, Release)) else ""


async def write_tick(connection: Connection, queries: Queries, tick: Tick) -> Ticked:
    writing = _Writing(connection, queries)
    ticked = writing.ticked
    for suspects in tick.suspects:
        await connection.execute(queries.suspect, suspects.session, sorted(suspects.jobs))
    if tick.outcomes:
        ticked.settled = await writing.settle(tick.outcomes)
    if tick.versions or any(_wanted(outcome) for outcome in tick.outcomes):
        await writing.serve_versions()
    for handover in tick.handovers:
        await writing.hand_over(handover)
    if tick.sweep is not None:
        await writing.sweep(tick.sweep)
    if tick.placements:
        ticked.submitted = await writing.submit(tick.placements, tick.queue_ready_max)
    if tick.orders:
        ticked.ordered = await writing.order(tick.orders)
    if tick.ending:
        ticked.ending = await writing.claim_ending(tick.ending)
    if tick.alone is not None:
        ticked.alone = await writing.claim_alone(tick.alone)
    for claim in tick.claims:
        leased, cut_at = await writing.claim(claim) if claim.always or ticked.readied else (None, None)
        ticked.claimed.append(leased)
        ticked.cut_at.append(cut_at)
    return ticked


class _Writing:
    def __init__(self, connection: Connection, queries: Queries) -> None:
        self.ticked = Ticked()
        self._connection = connection
        self._queries = queries

    async def settle(self, outcomes: Sequence[JobOutcome]) -> list[bool]:
        # Deduplicate: an outcome that a runner sent again counts once. Of several progress reports under one lease the
        # last one with a note counts.
        going_on: dict[tuple[UUID, int, UUID], JobOutcome] = {}
        letting_go: dict[tuple[UUID, int, UUID], JobOutcome] = {}
        for outcome in outcomes:
            key = (outcome.job, outcome.lease, outcome.session)
            if not isinstance(outcome.what, Progress):
                letting_go.setdefault(key, outcome)
            elif key not in going_on or outcome.what.note is not None:
                going_on[key] = outcome
        settled: set[tuple[UUID, int]] = set()
        if going_on:
            columns = rows.progress(going_on[key] for key in sorted(going_on))
            found = await self._connection.fetch(self._queries.progress, *columns)
            settled |= {(row["id"], row["lease"]) for row in found}
        if letting_go:
            columns = rows.outcomes(letting_go[key] for key in sorted(letting_go))
            found = await self._connection.fetch(self._queries.settle, *columns)
            settled |= {(row["id"], row["lease"]) for row in found}
            self.ticked.readied += sum(1 for row in found if row["state"] == JobState.READY)
            await self._wake_parents([row for row in found if row["parent"] and JobState(row["state"]).ended])
        missed = {outcome.job for outcome in outcomes if (outcome.job, outcome.lease) not in settled}
        standing = await self._standing(missed)
        return [
            (outcome.job, outcome.lease) in settled
            or (outcome.job in standing and lifecycle.repeats(*standing[outcome.job], outcome.lease))
            for outcome in outcomes
        ]

    async def _wake_parents(self, children: Sequence[asyncpg.Record]) -> None:
        if not children:
            return
        parents = sorted({child["parent"] for child in children})
        found = await self._connection.fetch(self._queries.wake_parents, parents)
        woken = {row["id"]: row for row in found}
        ended = [(child["parent"], child["id"]) for child in children if child["parent"] in woken]
        if ended:
            await self._connection.execute(self._queries.number_ends, *map(list, zip(*ended, strict=True)))
        for parent in sorted(woken):
            row = woken[parent]
            state = JobState(row["state"])
            notice = lifecycle.notice_of(Wake()) if state is JobState.LEASED else None
            self.ticked.parents.append(parent)
            self.ticked.woken.append(OrderAnswer(state, None, notice, row["session"], row["lease"]))
            self.ticked.readied += state is JobState.READY and row["was"] == JobState.PARKED

    async def hand_over(self, handover: JobHandover) -> None:
        slot, skills = handover.slot, handover.skills
        found = await self._connection.fetch(
            self._queries.hand_over,
            sorted(handover.jobs),
            slot.session,
            slot.stream,
            sorted(skills.agents) or None,
            sorted(skills.queues) or None,
            rows.from_versions(slot.versions),
        )
        self.ticked.leased += [Leased(rows.to_job(row, runner_id=slot.runner_id), 0.0) for row in found]
        self.ticked.readied -= len(found)

    async def sweep(self, sweep: Sweep) -> None:
        ticked = self.ticked
        if sweep.sessions:
            await self._expire(sweep)
        if sweep.terminations:
            taken = await self._connection.fetch(self._queries.take_terminating, TERMINATE_S, SWEEP_JOBS_MAX)
            ticked.lost += [Lost(row["session"], row["id"], row["lease"], False) for row in taken]
            ticked.readied += len(taken)
        if sweep.timers:
            fired = await self._connection.fetch(self._queries.fire, SWEEP_JOBS_MAX)
            ticked.readied += len(fired)
            ticked.more |= len(fired) >= SWEEP_JOBS_MAX
        if sweep.deadlines:
            found = await self._connection.fetch(self._queries.overdue, SWEEP_JOBS_MAX)
            late = [JobOrder(row["id"], lifecycle.DEADLINE_PASSED) for row in found]
            ticked.overdue_jobs = [order.job for order in late]
            ticked.overdue = await self.order(late) if late else []
            ticked.more |= len(late) >= SWEEP_JOBS_MAX

    async def _expire(self, sweep: Sweep) -> None:
        ticked = self.ticked
        found = await self._connection.fetch(self._queries.expire, list(sweep.keep), SWEEP_SESSIONS_MAX)
        if not found:
            return
        ticked.expired = [row["session"] for row in found]
        ticked.more |= len(found) >= SWEEP_SESSIONS_MAX
        lost = await self._connection.fetch(self._queries.lose, ticked.expired, sweep.crash_limit, lifecycle.POISONED)
        ticked.lost = [Lost(row["session"], row["id"], row["lease"], row["state"] == JobState.PARKED) for row in lost]
        ticked.readied += sum(1 for one in ticked.lost if not one.poisoned)
        await self._connection.execute(self._queries.forget_expired)

    async def submit(self, placements: Sequence[Placement], queue_ready_max: int) -> list[Submitted | Refusal]:
        taken = _first_of_each(placements)
        refused = await self._refused(taken.values(), queue_ready_max) if queue_ready_max else set()
        new = [placement for job, placement in taken.items() if job not in refused]
        # In the order of their keys: two schedulers then lock the keys in the same order.
        new.sort(key=lambda placement: _lock_order(placement.submission))
        found = await self._connection.fetch(self._queries.submit, *rows.placed(new)) if new else []
        inserted = {row["id"]: row for row in found}
        answers: list[Submitted | Refusal | None] = []
        for placement in placements:
            job = placement.submission.id
            row = inserted.get(job) if taken.get(job) is placement else None
            answers.append(None if row is None else Submitted(rows.to_new_job(placement, row), created=True))
        self.ticked.readied += sum(1 for row in inserted.values() if row["state"] == JobState.READY)
        await self._link_retries([placement.submission for placement in new if placement.submission.id in inserted])
        missing = [n for n, answer in enumerate(answers) if answer is None]
        known = await self._known([placements[n].submission for n in missing])
        for n, answer in zip(missing, known, strict=True):
            if answer is None and refused:
                # This submission was refused, or an earlier one in this tick with the same key.
                answer = queue_full(placements[n].submission.queue, queue_ready_max)
            answers[n] = answer
        # The key was taken when the job was inserted and free when it was looked up: its job was removed in between.
        return [answer or Unavailable("the job was removed meanwhile; send it again") for answer in answers]

    async def _link_retries(self, submissions: Iterable[Submission]) -> None:
        retries = [(one.fork.from_job, one.id, one.tenant) for one in submissions if one.fork and one.fork.retry]
        if retries:
            await self._connection.execute(self._queries.link_retries, *map(list, zip(*retries, strict=True)))

    async def _refused(self, placements: Iterable[Placement], queue_ready_max: int) -> set[UUID]:
        """The new jobs for which their queue has no room. A job with a slot or a later start takes no room there."""
        waiting = [one.submission for one in placements if one.slot is None and one.submission.start_after is None]
        wanted = Counter(submission.queue for submission in waiting)
        found = await self._connection.fetch(self._queries.ready_in_queues, sorted(wanted), queue_ready_max)
        levels = Counter({row["queue"]: row["jobs"] for row in found})
        if all(levels[queue] + more <= queue_ready_max for queue, more in wanted.items()):
            return set()
        refused = set()
        # A submission whose job exists already takes no room.
        for submission, known in zip(waiting, await self._known(waiting), strict=True):
            if known is None:
                if levels[submission.queue] >= queue_ready_max:
                    refused.add(submission.id)
                levels[submission.queue] += 1
        return refused

    async def _known(self, submissions: Sequence[Submission]) -> list[Submitted | Refusal | None]:
        if not submissions:
            return []
        columns = zip(*((one.id, one.tenant, one.agent, one.idempotency_key) for one in submissions), strict=True)
        found = await self._connection.fetch(self._queries.known, *columns)
        by_number = {row["number"]: rows.to_job(row) for row in found}
        answers: list[Submitted | Refusal | None] = []
        for number, submission in enumerate(submissions, 1):
            existing = by_number.get(number)
            if existing is None:
                answers.append(None)
                continue
            try:
                require_same(submission, existing)
            except Refusal as refusal:
                answers.append(refusal)
            else:
                answers.append(Submitted(existing, created=False))
        return answers

    async def order(self, orders: Sequence[JobOrder]) -> list[OrderAnswer]:
        answers: dict[JobOrder, OrderAnswer] = {}
        missed: list[JobOrder] = []
        for kind in ORDERS_IN_SEQUENCE:
            of_kind = sorted({order for order in orders if type(order.what) is kind}, key=lambda order: order.job)
            if of_kind:
                changed = await self._order_kind(kind, of_kind)
                answers |= {order: changed[order.job] for order in of_kind if order.job in changed}
                missed += [order for order in of_kind if order.job not in changed]
        standing = await self._standing({order.job for order in missed})
        for order in missed:
            if order.job in standing:
                state, _ = standing[order.job]
                answers[order] = OrderAnswer(state, lifecycle.refusal(state, order.what))
            else:
                answers[order] = OrderAnswer(JobState.READY, NotFound("no such job", job_id=order.job))
        return [answers[order] for order in orders]

    async def _order_kind(self, kind: type[Order], orders: Sequence[JobOrder]) -> dict[UUID, OrderAnswer]:
        jobs = [order.job for order in orders]
        query = {
            Wake: self._queries.wake,
            Cancel: self._queries.cancel,
            Terminate: self._queries.terminate,
            Pause: self._queries.pause,
            Resume: self._queries.resume,
            Requeue: self._queries.requeue,
        }[kind]
        cancels = [order.what for order in orders if isinstance(order.what, (Cancel, Terminate))]
        columns = [[cancel.reason for cancel in cancels], [cancel.actor for cancel in cancels]] if cancels else []
        changed = {}
        for row in await self._connection.fetch(query, jobs, *columns):
            state = JobState(row["state"])
            leased = state is JobState.LEASED
            # The only order that is refused and still changes the row: a requeue of a leased job sets its wake flag.
            refused = lifecycle.refusal(state, kind()) if leased else None
            notice = lifecycle.notice_of(kind()) if leased else None
            changed[row["id"]] = OrderAnswer(state, refused, notice, row["session"], row["lease"])
            self.ticked.readied += state is JobState.READY
        return changed

    async def serve_versions(self) -> None:
        found = await self._connection.fetch(self._queries.serve_versions, lifecycle.UNSERVED, SWEEP_JOBS_MAX)
        self.ticked.readied += sum(1 for row in found if row["state"] == JobState.READY)
        self.ticked.more |= len(found) >= SWEEP_JOBS_MAX

    async def claim(self, claim: Claim) -> tuple[int, Lane | None]:
        """How many jobs were leased, and the last lane that was read, if there are more."""
        skills = claim.skills
        names = {slot.session: slot.runner_id for slot in claim.slots}
        found = await self._connection.fetch(
            self._queries.claim,
            [slot.session for slot in claim.slots],
            [slot.stream for slot in claim.slots],
            sorted(skills.agents) or None,
            sorted(skills.queues) or None,
            len(claim.slots),
            list(names),
            rows.from_versions(claim.slots[0].versions if claim.slots else {}),
            list(claim.held),
            list(claim.held.values()),
            *(claim.after or ("", "", "", "")),
            LANES_MAX,
        )
        leased = [row for row in found if row["id"] is not None]
        self.ticked.leased += [
            Leased(rows.to_job(row, runner_id=names[row["session"]]), row["waited_s"]) for row in leased
        ]
        last = found[0] if found and found[0]["last_number"] >= LANES_MAX else None
        return len(leased), None if last is None else _lane(last)

    async def claim_alone(self, claim: AloneClaim) -> UUID | None:
        slot, skills = claim.slot, claim.skills
        row = await self._connection.fetchrow(
            self._queries.claim_alone,
            slot.session,
            slot.stream,
            sorted(skills.agents) or None,
            sorted(skills.queues) or None,
            rows.from_versions(slot.versions),
        )
        if row is None:
            return None
        leased = Leased(rows.to_job(row, runner_id=slot.runner_id), row["waited_s"])
        self.ticked.leased.append(leased)
        return leased.job.id

    async def claim_ending(self, slots: Sequence[Slot]) -> int:
        names = {slot.session: slot.runner_id for slot in slots}
        found = await self._connection.fetch(
            self._queries.claim_ending,
            [slot.session for slot in slots],
            [slot.stream for slot in slots],
            len(slots),
            list(names),
        )
        self.ticked.leased += [
            Leased(rows.to_job(row, runner_id=names[row["session"]]), row["waited_s"]) for row in found
        ]
        return len(found)

    async def _standing(self, jobs: set[UUID]) -> dict[UUID, tuple[JobState, int]]:
        if not jobs:
            return {}
        found = await self._connection.fetch(self._queries.standing, sorted(jobs))
        return {row["id"]: (JobState(row["state"]), row["lease"]) for row in found}


def _lane(row: asyncpg.Record) -> Lane:
    return row["last_agent"], row["last_queue"], row["last_version"], row["last_tenant"]


def _first_of_each(placements: Sequence[Placement]) -> dict[UUID, Placement]:
    """By id, the placements that make a job: of several with the same id or key, the first."""
    first: dict[UUID, Placement] = {}
    keys: set[tuple[str, str, str]] = set()
    for placement in placements:
        submission = placement.submission
        key = (submission.tenant, submission.agent, submission.idempotency_key)
        if submission.id not in first and not (submission.idempotency_key and key in keys):
            first[submission.id] = placement
            keys.add(key)
    return first


def _lock_order(submission: Submission) -> tuple[str, str, str, UUID]:
    return submission.tenant, submission.agent, submission.idempotency_key, submission.id
