"""Rows to jobs, and ticks to the columns that statements take. The only module that knows the columns of a row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg

from aetheris_scheduler.core.job import Failure, Fork, Job, JobState
from aetheris_scheduler.core.lifecycle import End, Park, Progress, Release
from aetheris_scheduler.store.tick import JobOutcome, Placement

_STATES = {int(state): state for state in JobState}


def to_job(row: asyncpg.Record, *, runner_id: str | None = None) -> Job:
    """`runner_id` replaces the row's, where the row has none. Lists are read without input and result."""
    state = _STATES[row["state"]]
    return Job(
        id=row["id"],
        tenant=row["tenant"],
        agent=row["agent"],
        queue=row["queue"],
        priority=row["priority"],
        state=state,
        since=row["since"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        lease=row["lease"],
        session=row["session"],
        runner_id=(row["runner_id"] or "") if runner_id is None else runner_id,
        wake=row["wake"],
        cancel=row["cancel"],
        cancel_reason=row["cancel_reason"],
        cancel_actor=row["cancel_actor"],
        terminate=row["terminate"],
        end_asked_at=row["end_asked_at"],
        needs_code=row["needs_code"],
        version=row["version"],
        pinned=row["pinned"],
        paused=row["paused"],
        operator_only=row["operator_only"],
        progressed=row["progressed"],
        crash_count=row["crash_count"],
        park_reason=row["park_reason"],
        wake_at=row["wake_at"],
        start_after=row["start_after"],
        deadline=row["deadline"],
        parent=row["parent"],
        idempotency_key=row["idempotency_key"],
        digest=row["digest"],
        traceparent=row["traceparent"],
        input=row.get("input", b""),
        result=row.get("result"),
        failure=to_failure(row["failure"]),
        actor=row["actor"],
        fork=to_fork(row["fork"]),
        retried_as=row["retried_as"],
        # Not read in lists.
        progress_lease=row.get("progress_lease", 0),
        progress_fraction=row.get("progress_fraction"),
        progress_note=row.get("progress_note", ""),
        progress_at=row.get("progress_at"),
    )


def to_new_job(placement: Placement, row: asyncpg.Record) -> Job:
    """A job that was just inserted. Only the columns that the database decided are read back."""
    submission, slot, state = placement.submission, placement.slot, _STATES[row["state"]]
    leased = state is JobState.LEASED and slot is not None
    return Job(
        id=submission.id,
        tenant=submission.tenant,
        agent=submission.agent,
        queue=submission.queue,
        priority=submission.priority,
        state=state,
        since=row["since"],
        created_at=row["since"],
        started_at=row["since"] if leased else None,
        lease=row["lease"],
        session=slot.session if leased and slot is not None else None,
        runner_id=slot.runner_id if leased and slot is not None else "",
        version=slot.versions.get(submission.agent, "") if leased and slot is not None else "",
        park_reason=row["park_reason"],
        wake_at=row["wake_at"],
        start_after=submission.start_after,
        deadline=submission.deadline,
        parent=submission.parent,
        idempotency_key=submission.idempotency_key,
        digest=submission.digest,
        traceparent=submission.traceparent,
        input=submission.input,
        actor=submission.actor,
        fork=submission.fork,
    )


def placed(placements: Iterable[Placement]) -> Sequence[Sequence[Any]]:
    """The columns of `submit`."""
    columns = [
        (
            one.submission.id,
            one.submission.tenant,
            one.submission.agent,
            one.submission.queue,
            one.submission.priority,
            one.submission.parent,
            one.submission.deadline,
            one.submission.idempotency_key,
            one.submission.digest,
            one.submission.traceparent,
            one.submission.input,
            one.submission.start_after,
            None if one.slot is None else one.slot.session,
            None if one.slot is None else one.slot.stream,
            one.submission.actor,
            from_fork(one.submission.fork),
            "" if one.slot is None else one.slot.versions.get(one.submission.agent, ""),
        )
        for one in placements
    ]
    sessions = {row[12] for row in columns if row[12] is not None}
    *others, versions = (list(column) for column in zip(*columns, strict=True))
    return [*others, list(sessions), versions]


def outcomes(settling: Iterable[JobOutcome]) -> Sequence[Sequence[Any]]:
    """The columns of `settle`."""
    return [list(column) for column in zip(*map(_outcome, settling), strict=True)]


def _outcome(outcome: JobOutcome) -> tuple[Any, ...]:
    key = (outcome.job, outcome.lease, outcome.session)
    match outcome.what:
        case Park(reason=reason, wants=wants) if wants:
            return (*key, JobState.PARKED, reason, None, None, True, True, None, None, False, wants)
        case Release(reason=reason, needs_code=needs_code, wants=wants) if wants:
            return (*key, JobState.PARKED, reason, None, None, True, False, None, None, needs_code, wants)
        case Park(reason=reason, wake_at=wake_at, operator=operator):
            return (*key, JobState.PARKED, reason, wake_at, None, operator, True, None, None, False, "")
        case Release(reason=reason, delay=delay, needs_code=needs_code) if delay:
            return (
                *key,
                JobState.PARKED,
                reason,
                None,
                delay.total_seconds(),
                False,
                False,
                None,
                None,
                needs_code,
                "",
            )
        case Release(needs_code=needs_code):
            return (*key, JobState.READY, "", None, None, False, False, None, None, needs_code, "")
        case End(state=state, result=result, failure=failure):
            return (*key, state, "", None, None, False, False, result, from_failure(failure), False, "")
        case Progress():
            raise ValueError("progress changes no state; it has a statement of its own")


def progress(outcomes: Iterable[JobOutcome]) -> Sequence[Sequence[Any]]:
    """The columns of `progress`."""
    reports = []
    for outcome in outcomes:
        assert isinstance(outcome.what, Progress)
        reports.append((outcome.job, outcome.lease, outcome.session, outcome.what.fraction, outcome.what.note))
    return [list(column) for column in zip(*reports, strict=True)]


def to_fork(text: str | None) -> Fork | None:
    if text is None:
        return None
    fork = json.loads(text)
    return Fork(UUID(fork["from_job"]), fork["at_seq"], fork["effects"], fork["before_path"], fork.get("retry", False))


def from_fork(fork: Fork | None) -> str | None:
    if fork is None:
        return None
    return json.dumps(
        {
            "from_job": str(fork.from_job),
            "at_seq": fork.at_seq,
            "effects": fork.effects,
            "before_path": fork.before_path,
            "retry": fork.retry,
        }
    )


def to_failure(text: str | None) -> Failure | None:
    return None if text is None else Failure(**json.loads(text))


def from_failure(failure: Failure | None) -> str | None:
    if failure is None:
        return None
    return json.dumps(
        {
            "type": failure.type,
            "message": failure.message,
            "retryable": failure.retryable,
            "stack": failure.stack,
        }
    )


def from_versions(versions: Mapping[str, str]) -> str:
    return json.dumps(dict(versions))


def to_versions(text: str) -> Mapping[str, str]:
    versions: Mapping[str, str] = json.loads(text)
    return versions
