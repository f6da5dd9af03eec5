"""The errors that the client raises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aetheris_api.jobs import Job

from aetheris.errors import AetherisError


class ApiError(AetherisError):
    """Aetheris refused the call. `code` names the rule, e.g. "JOB_FINISHED"; `details` has the facts."""

    def __init__(self, code: str, message: str, status: int, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.details = dict(details or {})

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


class Unreachable(AetherisError, ConnectionError):
    """There was no answer from the server."""


class JobFailed(AetherisError):
    """The awaited job ended with an error, which is `job.error`."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.job = job

    def __str__(self) -> str:
        error = self.job.error
        return f"job {self.job.id} {self.job.status}: {error or 'no reason is on record'}"


class JobCancelled(JobFailed):
    """The awaited job was cancelled."""


class JobNotFinished(AetherisError, TimeoutError):
    """The awaited job has not ended yet; `job` is its state."""

    def __init__(self, job: Job, waited_s: float) -> None:
        super().__init__(job, waited_s)
        self.job = job
        self.waited_s = waited_s

    def __str__(self) -> str:
        waits = f", waiting for {self.job.park_reason}" if self.job.park_reason else ""
        return f"job {self.job.id} is {self.job.status}{waits} after {self.waited_s:g} s; it continues"
