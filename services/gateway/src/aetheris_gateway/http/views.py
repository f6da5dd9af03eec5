"""Messages and traces to the shapes of REST."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

from aetheris_journal import codec
from aetheris_journal import events as e
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.ledger.v1 import event_pb2 as event_pb
from aetheris_proto.ledger.v1 import ledger_pb2 as ledger_pb
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb
from google.protobuf.timestamp_pb2 import Timestamp

from aetheris_gateway.core import steps
from aetheris_gateway.http import models as m
from aetheris_gateway.http.render import embed, moment
from aetheris_gateway.service.record import TracedJob, events_of
from aetheris_gateway.states import STATUSES

EFFECT_STATES: dict[ledger_pb.EffectState, str] = {
    ledger_pb.EFFECT_STATE_STARTED: "started",
    ledger_pb.EFFECT_STATE_COMMITTED: "committed",
    ledger_pb.EFFECT_STATE_FAILED: "failed",
    ledger_pb.EFFECT_STATE_IN_DOUBT: "in_doubt",
    ledger_pb.EFFECT_STATE_NOT_EXECUTED: "not_executed",
    ledger_pb.EFFECT_STATE_ABANDONED: "abandoned",
    ledger_pb.EFFECT_STATE_COMPENSATED: "compensated",
}


def links(job_id: str) -> m.JobLinks:
    here = f"/api/jobs/{job_id}"
    return m.JobLinks(
        self=here,
        events=f"{here}/events",
        trace=f"{here}/trace",
        page=f"{here}/trace/page",
        stream=f"{here}/stream",
        children=f"/api/jobs?parent={job_id}",
    )


def time_of(message: Any, field: str) -> str | None:
    return moment(codec.from_timestamp(getattr(message, field))) if message.HasField(field) else None


def stamp_of(stamp: Timestamp) -> str:
    return moment(codec.from_timestamp(stamp)) or ""


def accepted(response: pb.SubmitResponse | pb.ForkJobResponse) -> m.AcceptedJob:
    job = response.job
    hint = response.hint if isinstance(response, pb.SubmitResponse) else ""
    return m.AcceptedJob(
        job_id=job.job_id,
        id=job.job_id,
        status=STATUSES[job.state],
        agent=job.agent,
        created=response.created,
        hint=hint or None,
        links=links(job.job_id),
    )


def job(found: scheduler_pb.Job) -> m.Job:
    return m.Job(
        id=found.job_id,
        agent=found.agent,
        status=STATUSES[found.state],
        queue=found.queue,
        priority=found.priority,
        input=embed(found.input),
        result=embed(found.result),
        error=_wire_failure(found.failure) if found.HasField("failure") else None,
        created_at=time_of(found, "create_time"),
        started_at=time_of(found, "start_time"),
        finished_at=time_of(found, "finish_time"),
        park_reason=found.park_reason or None,
        wake_at=time_of(found, "wake_time"),
        paused=found.paused,
        cancel_requested=found.cancel_requested,
        runner_id=found.runner_id or None,
        lease=found.lease,
        crash_count=found.crash_count,
        parent_job_id=found.parent_job_id or None,
        actor=found.actor or None,
        fork=fork(found.fork) if found.HasField("fork") else None,
        progress=progress(found.progress) if found.HasField("progress") else None,
        idempotency_key=found.idempotency_key or None,
        deadline=time_of(found, "deadline"),
        links=links(found.job_id),
    )


def fork(found: scheduler_pb.Fork) -> m.Fork:
    return m.Fork(
        job_id=found.from_job_id, at_seq=found.at_seq, before_path=found.before_path or None, effects=found.effects
    )


def progress(found: scheduler_pb.Progress) -> m.Progress:
    return m.Progress(fraction=found.fraction, note=found.note, at=time_of(found, "time"))


def _wire_failure(failure: event_pb.Failure) -> m.Failure:
    return m.Failure(type=failure.type, message=failure.message, retryable=failure.retryable, stack=failure.stack)


def _failure(failure: e.Failure | None) -> m.Failure | None:
    if failure is None:
        return None
    return m.Failure(type=failure.type, message=failure.message, retryable=failure.retryable, stack=failure.stack)


def job_page(page: pb.ListJobsResponse) -> m.JobPage:
    return m.JobPage(jobs=[job(found) for found in page.jobs], next_cursor=page.next_page_token or None)


# --- events


def commit(found: ledger_pb.Commit) -> m.Commit:
    recorded, digest = stamp_of(found.record_time), found.hash.hex()
    return m.Commit(
        seq=found.seq,
        lease=found.lease,
        recorded_at=recorded,
        hash=digest,
        events=[
            m.Event(
                seq=found.seq,
                type=codec.NAMES[type(event)],
                at=moment(event.at),
                recorded_at=recorded,
                lease=found.lease,
                hash=digest,
                data={field.name: _value(getattr(event, field.name)) for field in fields(event) if field.name != "at"},
            )
            for event in events_of(found)
        ],
    )


def _value(value: Any) -> Any:
    match value:
        case bytes():
            return embed(value)
        case IntEnum():
            return value.name.lower()
        case datetime():
            return moment(value)
        case timedelta():
            return milliseconds(value)
        case e.Failure():
            return _failure(value)
    return value


def event_page(page: pb.ReadEventsResponse) -> m.EventPage:
    return m.EventPage(
        events=[event for found in page.commits for event in commit(found).events],
        next_after=page.commits[-1].seq if page.more and page.commits else None,
    )


# --- traces


def milliseconds(span: timedelta | None) -> float | None:
    return None if span is None else round(span.total_seconds() * 1000, 3)


def trace(told: TracedJob) -> m.Trace:
    return m.Trace(
        job=job(told.job),
        steps=[step(found) for found in told.trace.steps],
        leases=[lease(found) for found in told.trace.leases],
        messages=[message(found) for found in told.trace.messages],
        events=told.trace.events,
        complete=told.complete,
    )


def lease(found: steps.Lease) -> m.Lease:
    return m.Lease(
        number=found.number,
        runner_id=found.runner_id,
        code_version=found.code_version or None,
        since=moment(found.since),
        until=moment(found.until),
    )


def message(found: steps.Message) -> m.Message:
    return m.Message(
        channel=found.channel,
        message_id=found.message_id,
        payload=embed(found.payload),
        actor=found.actor or None,
        received_at=moment(found.received_at),
    )


def step(found: steps.Step) -> m.Step:
    back = found.compensation
    return m.Step(
        path=found.path,
        block=found.block or None,
        branch=found.branch or None,
        depth=found.depth,
        name=found.name,
        kind=found.kind,
        status=found.status,
        outcome=found.outcome or None,
        attempts=found.attempts,
        started_at=moment(found.started_at),
        ended_at=moment(found.ended_at),
        duration_ms=milliseconds(found.elapsed),
        arguments=embed(found.arguments),
        result=embed(found.result),
        error=_failure(found.failure),
        key=found.key or None,
        child_job_id=found.child_job_id or None,
        recorded_job_id=found.recorded_job_id or None,
        tries=[_attempt(attempt) for attempt in found.tries],
        waits=[_wait(wait) for wait in found.waits],
        doubts=[_doubt(doubt) for doubt in found.doubts],
        compensation=None
        if back is None
        else m.Compensation(since=moment(back.since), ended_at=moment(back.ended_at), result=embed(back.result)),
    )


def _attempt(attempt: steps.Attempt) -> m.Attempt:
    return m.Attempt(
        number=attempt.number,
        started_at=moment(attempt.started_at),
        duration_ms=milliseconds(attempt.elapsed),
        error=_failure(attempt.failure),
        retry_at=moment(attempt.retry_at),
        lease=attempt.lease,
    )


def _wait(wait: steps.Wait) -> m.Wait:
    return m.Wait(
        kind=wait.kind.name.lower(),
        name=wait.name,
        since=moment(wait.since),
        deadline=moment(wait.deadline),
        ended_at=moment(wait.ended_at),
        timed_out=wait.timed_out,
        detail=embed(wait.detail),
        payload=embed(wait.payload),
        actor=wait.actor or None,
    )


def _doubt(doubt: steps.Doubt) -> m.Doubt:
    return m.Doubt(
        reason=doubt.reason,
        since=moment(doubt.since),
        resolved_at=moment(doubt.resolved_at),
        verdict=None if doubt.verdict is None else doubt.verdict.name.lower(),
        source=None if doubt.source is None else doubt.source.name.lower(),
        actor=doubt.actor or None,
        note=doubt.note or None,
    )


def verdict(job_id: str, response: pb.VerifyJobResponse) -> m.Verdict:
    found = response.verdict
    return m.Verdict(
        job_id=job_id,
        intact=found.intact,
        commits=found.commits,
        events=found.events,
        effects=found.effects,
        head=found.head.hex(),
        bad_seq=found.bad_seq or None,
        problem=found.problem or None,
    )


# --- the house


def effect_page(page: pb.ListEffectsResponse) -> m.EffectPage:
    return m.EffectPage(effects=[effect(found) for found in page.effects], next_cursor=page.next_page_token or None)


def effect(found: ledger_pb.Effect) -> m.Effect:
    note = event_pb.EffectResolved.Verdict.Name(found.note.verdict) if found.HasField("note") else ""
    return m.Effect(
        key=found.key,
        state=EFFECT_STATES.get(found.state, "unknown"),
        tool=found.tool,
        job_id=found.job_id,
        seq=found.seq,
        lease=found.lease,
        arguments_digest=found.arguments_digest.hex(),
        result_digest=found.result_digest.hex() or None,
        updated_at=time_of(found, "update_time"),
        verdict=note.removeprefix("VERDICT_").lower() or None,
    )


def runner_page(page: pb.ListRunnersResponse) -> m.RunnerPage:
    return m.RunnerPage(
        runners=[
            m.Runner(
                session_id=runner.session_id,
                runner_id=runner.runner_id,
                agents=list(runner.agents),
                capacity=runner.capacity,
                held=runner.held,
                lease_until=time_of(runner, "lease_deadline"),
                draining=runner.draining,
            )
            for runner in page.runners
        ],
        next_cursor=page.next_page_token or None,
    )


def agents(runners: Sequence[scheduler_pb.Runner]) -> m.AgentList:
    names = sorted({name for runner in runners for name in runner.agents})
    offers = {name: [runner for runner in runners if name in runner.agents] for name in names}
    return m.AgentList(
        agents=[
            m.Agent(
                id=name,
                runners=len(offering),
                capacity=sum(runner.capacity for runner in offering),
                held=sum(runner.held for runner in offering),
            )
            for name, offering in offers.items()
        ]
    )


def stuck_page(page: pb.ListStuckResponse) -> m.StuckPage:
    return m.StuckPage(
        jobs=[
            m.StuckJob(job=job(found.job), cause=found.cause, remedy=found.remedy, since=time_of(found, "since_time"))
            for found in page.jobs
        ],
        next_cursor=page.next_page_token or None,
    )
