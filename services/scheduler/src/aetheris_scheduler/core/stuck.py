"""Stuck jobs: the cause and a remedy, as far as the scheduler can know them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from aetheris_scheduler.core.job import Job, JobState

# A timer that is this late is not just waiting for the next tick.
OVERDUE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    job: Job
    cause: str
    remedy: str
    since: datetime


def diagnose(job: Job, now: datetime, patience: timedelta) -> Diagnosis | None:
    """None for a job that is not stuck. `patience` is how long a job may wait, or run without progress."""
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
