"""Clients of a running Aetheris: `Client` for ordinary code, `AsyncClient` for asyncio."""

from aetheris_api.approvals import Approval, Decision
from aetheris_api.effects import Effect
from aetheris_api.errors import Failure
from aetheris_api.health import Health
from aetheris_api.jobs import AcceptedJob, Job
from aetheris_api.record import Event, Verification
from aetheris_api.runners import Runner
from aetheris_api.trace import Lease, Message, Step, Trace

from aetheris.client.asynchronous import AsyncClient
from aetheris.client.errors import ApiError, JobCancelled, JobFailed, JobNotFinished, Unreachable
from aetheris.client.synchronous import Client

__all__ = [
    "AcceptedJob",
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
    "Verification",
]
