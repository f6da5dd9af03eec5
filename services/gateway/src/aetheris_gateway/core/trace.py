"""Folds a job's events into its trace.

Every event changes at most one step, the one at its path. The fold knows all events and refuses none: a record is shown
as it is, even if a later version of the runner wrote something unexpected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from aetheris_api.statuses import JobStatus, StepKind, StepOutcome, StepStatus
from aetheris_journal import events as e

from aetheris_gateway.core.steps import (
    OPEN,
    JobTrace,
    TracedAttempt,
    TracedCompensation,
    TracedDoubt,
    TracedLease,
    TracedMessage,
    TracedStep,
    TracedWait,
    in_order,
)

_VALUES = {
    e.ValueKind.TIME: "now",
    e.ValueKind.RANDOM: "random",
    e.ValueKind.UUID: "uuid",
    e.ValueKind.TOKEN: "awakeable",
}


def trace_of(events: Iterable[e.Event]) -> JobTrace:
    """The trace of a chain or of its beginning; without events it is empty."""
    fold = _Fold()
    for event in events:
        fold.see(event)
    return fold.trace()


class _Fold:
    def __init__(self) -> None:
        self._trace = JobTrace()
        self._steps: dict[str, TracedStep] = {}
        self._children: dict[str, TracedStep] = {}
        self._lease = 0

    def see(self, event: e.Event) -> None:
        self._trace.events += 1
        _SEE[type(event)](self, event)

    def trace(self) -> JobTrace:
        self._trace.steps = in_order(self._steps.values())
        return self._trace

    # --- the job

    def created(self, event: e.JobCreated) -> None:
        trace = self._trace
        trace.agent, trace.tenant, trace.queue = event.agent, event.tenant, event.queue
        trace.input, trace.created_at = event.input, event.at
        trace.parent_job_id, trace.idempotency_key = event.parent_job_id, event.idempotency_key

    def leased(self, event: e.JobLeased) -> None:
        self._close_lease(event.at)
        self._lease = event.lease
        self._trace.leases.append(TracedLease(event.lease, event.runner_id, event.at, event.code_version))

    def _close_lease(self, at: datetime) -> None:
        if self._trace.leases and self._trace.leases[-1].until is None:
            self._trace.leases[-1].until = at

    def message(self, event: e.MessageReceived) -> None:
        received = TracedMessage(event.channel, event.message_id, event.payload, event.actor, event.at)
        self._trace.messages.append(received)

    def job_completed(self, event: e.JobCompleted) -> None:
        self._end(event.at, JobStatus.COMPLETED)
        self._trace.result = event.result

    def job_failed(self, event: e.JobFailed) -> None:
        self._end(event.at, JobStatus.FAILED)
        self._trace.failure = event.failure

    def job_cancelled(self, event: e.JobCancelled) -> None:
        self._end(event.at, JobStatus.CANCELLED)
        self._trace.failure = e.Failure("Cancelled", event.reason)
        self._trace.actor = event.actor

    def _end(self, at: datetime, ending: JobStatus) -> None:
        self._trace.ending, self._trace.ended_at = ending, at
        self._close_lease(at)
        for step in self._steps.values():
            if step.status is StepStatus.RUNNING and step.kind is StepKind.EFFECT and step.compensation is None:
                # The intent has no outcome, and no runner will add one: whether the tool ran stays unknown.
                step.status = StepStatus.IN_DOUBT
            elif step.status in OPEN and step.status is not StepStatus.IN_DOUBT:
                reason = step.failure or e.Failure("JobEnded", f"the job was {ending} before this ended")
                self._close(step, at, StepStatus.FAILED, step.outcome, failure=reason)

    # --- steps

    def _at(self, path: str, kind: StepKind, name: str, started_at: datetime) -> TracedStep:
        """The step at `path`, made if this event is its first."""
        step = self._steps.get(path)
        if step is None:
            step = self._steps[path] = TracedStep(path, name, kind, started_at)
        elif step.kind is StepKind.WAIT and kind is not StepKind.WAIT:
            step.kind, step.name = kind, name  # the wait belonged to this step
        return step

    @staticmethod
    def _close(
        step: TracedStep,
        at: datetime,
        status: StepStatus,
        outcome: StepOutcome,
        *,
        result: bytes = b"",
        failure: e.Failure | None = None,
        elapsed: timedelta | None = None,
    ) -> None:
        step.status, step.outcome, step.ended_at = status, outcome, at
        step.result, step.failure = result, failure
        once = len(step.tries) < 2 and not step.doubts
        step.elapsed = elapsed if once and elapsed is not None else at - step.started_at

    @staticmethod
    def _reopen(step: TracedStep, status: StepStatus, outcome: StepOutcome = StepOutcome.NONE) -> None:
        step.status, step.outcome, step.ended_at, step.elapsed = status, outcome, None, None

    def _attempt(self, step: TracedStep, number: int, started_at: datetime) -> TracedAttempt:
        for attempt in reversed(step.tries):
            if attempt.number == number and attempt.elapsed is None:
                return attempt
        attempt = TracedAttempt(number, started_at, self._lease)
        step.tries.append(attempt)
        return attempt

    def plan(self, event: e.PlanGenerated) -> None:
        step = self._at(event.path, StepKind.PLAN, "plan", event.at)
        self._close(step, event.at, StepStatus.COMPLETED, StepOutcome.PURE, result=event.plan)

    def step_committed(self, event: e.StepCommitted) -> None:
        began = event.at - event.elapsed
        step = self._at(event.path, StepKind.STEP, event.name, began)
        step.arguments = event.arguments
        self._attempt(step, event.attempt, began).elapsed = event.elapsed
        self._close(step, event.at, StepStatus.COMPLETED, StepOutcome.PURE, result=event.result, elapsed=event.elapsed)

    def step_failed(self, event: e.StepFailed) -> None:
        step = self._at(event.path, StepKind.STEP, event.name, event.at - event.elapsed)
        step.arguments = event.arguments
        self._failed(step, event)

    def _failed(self, step: TracedStep, event: e.StepFailed | e.EffectFailed) -> None:
        attempt = self._attempt(step, event.attempt, event.at - event.elapsed)
        attempt.elapsed, attempt.failure, attempt.retry_at = event.elapsed, event.failure, event.retry_at
        if event.retry_at is not None:
            self._reopen(step, StepStatus.RETRYING, StepOutcome.RETRYABLE)
            step.failure = event.failure
        else:
            self._close(
                step,
                event.at,
                StepStatus.FAILED,
                StepOutcome.PERMANENT_FAILURE,
                failure=event.failure,
                elapsed=event.elapsed,
            )

    def value(self, event: e.ValueRecorded) -> None:
        step = self._at(event.path, StepKind.VALUE, _VALUES[event.kind], event.at)
        self._close(step, event.at, StepStatus.COMPLETED, StepOutcome.PURE, result=event.value)

    def checkpoint(self, event: e.CheckpointSaved) -> None:
        step = self._at(event.path, StepKind.CHECKPOINT, "checkpoint", event.at)
        self._close(step, event.at, StepStatus.COMPLETED, StepOutcome.PURE, result=event.state)

    # --- effects

    def effect_started(self, event: e.EffectStarted) -> None:
        step = self._at(event.path, StepKind.EFFECT, event.name, event.at)
        step.arguments, step.key = event.arguments, event.key
        self._attempt(step, event.attempt, event.at)
        self._reopen(step, StepStatus.RUNNING)

    def effect_committed(self, event: e.EffectCommitted) -> None:
        step = self._at(event.path, StepKind.EFFECT, event.name, event.at - event.elapsed)
        step.key = event.key
        if event.recorded_job_id:  # the effect was started by another job
            step.recorded_job_id, step.arguments = event.recorded_job_id, event.arguments
        self._attempt(step, event.attempt, event.at - event.elapsed).elapsed = event.elapsed
        outcome = StepOutcome.SIDE_EFFECT_COMMITTED
        self._close(step, event.at, StepStatus.COMPLETED, outcome, result=event.result, elapsed=event.elapsed)

    def effect_failed(self, event: e.EffectFailed) -> None:
        step = self._at(event.path, StepKind.EFFECT, "", event.at - event.elapsed)
        step.key = event.key
        self._failed(step, event)

    def effect_in_doubt(self, event: e.EffectInDoubt) -> None:
        step = self._at(event.path, StepKind.EFFECT, "", event.at)
        step.key = event.key
        step.doubts.append(TracedDoubt(event.reason, event.at))
        self._reopen(step, StepStatus.IN_DOUBT)

    def effect_resolved(self, event: e.EffectResolved) -> None:
        step = self._at(event.path, StepKind.EFFECT, "", event.at)
        if not step.doubts or step.doubts[-1].resolved_at is not None:
            step.doubts.append(TracedDoubt("", event.at))
        doubt = step.doubts[-1]
        doubt.resolved_at, doubt.resolution, doubt.source = event.at, event.verdict, event.source
        doubt.actor, doubt.note = event.actor, event.note
        if event.verdict is e.Resolution.COMMITTED:
            outcome = StepOutcome.SIDE_EFFECT_COMMITTED
            self._close(step, event.at, StepStatus.COMPLETED, outcome, result=event.result)
        elif event.verdict is e.Resolution.NOT_EXECUTED:
            self._reopen(step, StepStatus.RETRYING, StepOutcome.RETRYABLE)
        else:
            given_up = e.Failure("Abandoned", event.note or "whether it ran will never be known")
            self._close(step, event.at, StepStatus.FAILED, StepOutcome.PERMANENT_FAILURE, failure=given_up)

    def compensation_started(self, event: e.CompensationStarted) -> None:
        step = self._at(event.path, StepKind.EFFECT, "", event.at)
        step.key = event.key
        step.compensation = TracedCompensation(event.at)
        step.status = StepStatus.RUNNING

    def compensated(self, event: e.StepCompensated) -> None:
        step = self._at(event.path, StepKind.EFFECT, "", event.at)
        if step.compensation is None:
            step.compensation = TracedCompensation(event.at)
        step.compensation.ended_at, step.compensation.result = event.at, event.result
        step.status, step.outcome = StepStatus.COMPENSATED, StepOutcome.COMPENSATED

    # --- waits and children

    def waiting(self, event: e.JobWaiting) -> None:
        step = self._at(event.path, StepKind.WAIT, event.name or event.kind.name.lower(), event.at)
        if step.waits and step.waits[-1].ended_at is None:
            step.waits.pop()  # the wait was recorded again, e.g. with another deadline
        step.waits.append(TracedWait(event.kind, event.name, event.at, event.deadline, event.detail))
        if step.kind is StepKind.WAIT or event.kind is e.WaitKind.CHILD:
            step.status = StepStatus.WAITING

    def wait_completed(self, event: e.WaitCompleted) -> None:
        step = self._at(event.path, StepKind.WAIT, "", event.at)
        if not step.waits:
            step.waits.append(TracedWait(e.WaitKind.OPERATOR, "", event.at, None, b""))
        wait = step.waits[-1]
        wait.ended_at, wait.timed_out, wait.payload = event.at, event.timed_out, event.payload
        wait.source_id, wait.actor = event.source_id, event.actor
        if step.kind is not StepKind.WAIT:
            return
        late = event.timed_out and wait.kind is not e.WaitKind.TIMER
        status = StepStatus.TIMED_OUT if late else StepStatus.COMPLETED
        self._close(step, event.at, status, StepOutcome.PURE, result=event.payload)

    def child_started(self, event: e.ChildStarted) -> None:
        step = self._at(event.path, StepKind.CHILD, event.agent, event.at)
        step.child_job_id, step.arguments = event.child_job_id, event.input
        self._children[event.child_job_id] = step

    def child_completed(self, event: e.ChildCompleted) -> None:
        # The handle may be awaited elsewhere in the program than where the child was started.
        step = self._children.get(event.child_job_id) or self._at(event.path, StepKind.CHILD, "", event.at)
        step.child_job_id = event.child_job_id
        if event.failure is None:
            self._close(step, event.at, StepStatus.COMPLETED, StepOutcome.PURE, result=event.result)
        else:
            self._close(step, event.at, StepStatus.FAILED, StepOutcome.PERMANENT_FAILURE, failure=event.failure)


# One entry for each type of event; a test checks that none is missing.
_SEE: dict[type[e.Event], Callable[[_Fold, Any], None]] = {
    e.JobCreated: _Fold.created,
    e.JobLeased: _Fold.leased,
    e.PlanGenerated: _Fold.plan,
    e.StepCommitted: _Fold.step_committed,
    e.StepFailed: _Fold.step_failed,
    e.EffectStarted: _Fold.effect_started,
    e.EffectCommitted: _Fold.effect_committed,
    e.EffectFailed: _Fold.effect_failed,
    e.EffectInDoubt: _Fold.effect_in_doubt,
    e.EffectResolved: _Fold.effect_resolved,
    e.JobWaiting: _Fold.waiting,
    e.WaitCompleted: _Fold.wait_completed,
    e.MessageReceived: _Fold.message,
    e.CheckpointSaved: _Fold.checkpoint,
    e.ValueRecorded: _Fold.value,
    e.ChildStarted: _Fold.child_started,
    e.ChildCompleted: _Fold.child_completed,
    e.CompensationStarted: _Fold.compensation_started,
    e.StepCompensated: _Fold.compensated,
    e.JobCancelled: _Fold.job_cancelled,
    e.JobFailed: _Fold.job_failed,
    e.JobCompleted: _Fold.job_completed,
}
