"""Talking to a running Aetheris: `Client` for ordinary code, `AsyncClient` for asyncio."""

from aetheris.client.asynchronous import AsyncClient
from aetheris.client.errors import ApiError, JobCancelled, JobFailed, JobNotFinished, Unreachable
from aetheris.client.models import (
    Approval,
    Decision,
    Effect,
    Event,
    Failure,
    Health,
    Job,
    Lease,
    Message,
    Runner,
    Step,
    Trace,
    Verdict,
)
from aetheris.client.synchronous import Client

__all__ = [
    "ApiError",
    "Approval",
    "AsyncClient",
    "Client",
    "Decision",
    "Effect",
    "Event",
    "Failure",
    "Health",
    "Job",
    "JobCancelled",
    "JobFailed",
    "JobNotFinished",
    "Lease",
    "Message",
    "Runner",
    "Step",
    "Trace",
    "Unreachable",
    "Verdict",
]
