"""Stuck jobs: the cause and a remedy, as far as the scheduler can know them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from aetheris_scheduler.core.job import Job, JobState

# A timer that is this late is not just waiting for the next tick.
OVERDUE = timedelta(minutes=1)
# A job that was asked to end that long ago and has not is stuck, and its remedy says what it waits for.
UNENDED = timedelta(seconds=10)
_TERMINATE = "`aetheris terminate` ends it now and compensates nothing"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    job: Job
    cause: str
    remedy: str
    since: datetime


def diagnose(job: Job, now: datetime, patience: timedelta) -> Diagnosis | None:
    """None for a job that is not stuck. `patience` is how long a job may wait, or run without progress."""
    if job.cancel and not job.state.ended and job.end_asked_at is not None and now - job.end_asked_at > UNENDED:
        return _unended(job, job.end_asked_at)
    match job.state:
        case JobState.PARKED if job.operator_only and job.park_reason.startswith("poisoned"):
            return Diagnosis(
                job,
                "poisoned",
                "Its runners crash. Look at its trace and the runners' logs, mend the agent, then requeue it or cancel "
                "it.",
                job.since,
            )
        case JobState.PARKED if job.operator_only:
            return Diagnosis(
                job,
                "waits for an operator",
                f"It says: {job.park_reason}. Settle that, which requeues it, or cancel it.",
                job.since,
            )
        case JobState.PARKED if job.wake_at is not None and now - job.wake_at > OVERDUE:
            return Diagnosis(
                job,
                "wait overdue",
                "Its timer should have fired: see whether a scheduler runs and reaches its database.",
                job.wake_at,
            )
        case JobState.READY if not job.paused and now - job.since > patience:
            return Diagnosis(
                job,
                "no runner takes it",
                f"Start a runner that serves agent {job.agent} and takes from queue {job.queue}, or add capacity.",
                job.since,
            )
        case JobState.LEASED if not job.progressed and now - job.since > patience:
            return Diagnosis(
                job,
                "no progress",
                f"Runner {job.runner_id} has held it this long without a commit: look at its log, or drain it.",
                job.since,
            )
        case JobState.READY | JobState.LEASED if job.crash_count > 0:
            return Diagnosis(
                job,
                "crashes",
                f"Its lease was lost {job.crash_count} times in a row: look at the logs of the runners that held it.",
                job.since,
            )
    return None


def _unended(job: Job, since: datetime) -> Diagnosis:
    """A job that does not come to the end it was asked for, and what it waits for."""
    match job.state:
        case JobState.READY if job.needs_code:
            return Diagnosis(
                job,
                "cannot be compensated",
                f"It owes a compensation, which takes the code of agent {job.agent}: start a runner that offers the "
                f"agent and takes from queue {job.queue}; or {_TERMINATE}.",
                since,
            )
        case JobState.READY:
            return Diagnosis(
                job,
                "no runner ends it",
                f"Start a runner, or add capacity; or {_TERMINATE}."
                if not job.terminate
                else "Any runner can end it: start one, or add capacity.",
                since,
            )
        case JobState.PARKED:
            return Diagnosis(job, "does not end", f"It waits: {job.park_reason}. Settle that; or {_TERMINATE}.", since)
        case _:
            return Diagnosis(
                job,
                "does not end",
                f"Runner {job.runner_id} has not ended it yet: a step or tool does not return. Look at its trace; or "
                f"{_TERMINATE}.",
                since,
            )
