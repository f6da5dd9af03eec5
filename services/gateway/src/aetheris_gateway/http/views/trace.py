"""A job's trace in the shapes of REST."""

from __future__ import annotations

from aetheris_api import trace as shapes

from aetheris_gateway.core import steps
from aetheris_gateway.http.render import embed
from aetheris_gateway.http.views.fields import failure_of, milliseconds
from aetheris_gateway.http.views.jobs import job
from aetheris_gateway.service.record import TracedJob


def trace(traced: TracedJob) -> shapes.Trace:
    return shapes.Trace(
        job=job(traced.job),
        steps=[step(found) for found in traced.trace.steps],
        leases=[lease(found) for found in traced.trace.leases],
        messages=[message(found) for found in traced.trace.messages],
        events=traced.trace.events,
        complete=traced.complete,
    )


def lease(found: steps.TracedLease) -> shapes.Lease:
    return shapes.Lease(
        number=found.number,
        runner_id=found.runner_id,
        code_version=found.code_version or None,
        since=found.since,
        until=found.until,
    )


def message(found: steps.TracedMessage) -> shapes.Message:
    return shapes.Message(
        channel=found.channel,
        message_id=found.message_id,
        payload=embed(found.payload),
        actor=found.actor or None,
        received_at=found.received_at,
    )


def step(found: steps.TracedStep) -> shapes.Step:
    undone = found.compensation
    return shapes.Step(
        path=found.path,
        block=found.block or None,
        branch=found.branch or None,
        depth=found.depth,
        name=found.name,
        kind=found.kind,
        status=found.status,
        outcome=found.outcome or None,
        attempts=found.attempts,
        started_at=found.started_at,
        ended_at=found.ended_at,
        duration_ms=milliseconds(found.elapsed),
        arguments=embed(found.arguments),
        result=embed(found.result),
        error=failure_of(found.failure),
        key=found.key or None,
        child_job_id=found.child_job_id or None,
        recorded_job_id=found.recorded_job_id or None,
        tries=[_attempt(attempt) for attempt in found.tries],
        waits=[_wait(wait) for wait in found.waits],
        doubts=[_doubt(doubt) for doubt in found.doubts],
        compensation=None
        if undone is None
        else shapes.Compensation(since=undone.since, ended_at=undone.ended_at, result=embed(undone.result)),
    )


def _attempt(attempt: steps.TracedAttempt) -> shapes.Attempt:
    return shapes.Attempt(
        number=attempt.number,
        started_at=attempt.started_at,
        duration_ms=milliseconds(attempt.elapsed),
        error=failure_of(attempt.failure),
        retry_at=attempt.retry_at,
        lease=attempt.lease,
    )


def _wait(wait: steps.TracedWait) -> shapes.Wait:
    return shapes.Wait(
        kind=wait.kind.name.lower(),
        name=wait.name,
        since=wait.since,
        deadline=wait.deadline,
        ended_at=wait.ended_at,
        timed_out=wait.timed_out,
        detail=embed(wait.detail),
        payload=embed(wait.payload),
        actor=wait.actor or None,
    )


def _doubt(doubt: steps.TracedDoubt) -> shapes.Doubt:
    return shapes.Doubt(
        reason=doubt.reason,
        since=doubt.since,
        resolved_at=doubt.resolved_at,
        verdict=None if doubt.resolution is None else doubt.resolution.name.lower(),
        source=None if doubt.source is None else doubt.source.name.lower(),
        actor=doubt.actor or None,
        note=doubt.note or None,
    )
