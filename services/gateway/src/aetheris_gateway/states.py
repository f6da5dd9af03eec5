"""The scheduler's job states, and the statuses under which callers see them. It stands alone because both the services
and the views need it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from aetheris_api.statuses import JobStatus
from aetheris_kernel.errors import Invalid
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb

JobState = pb.JobState

FINISHED = frozenset({pb.JOB_STATE_COMPLETED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED})

STATUSES: Mapping[JobState, JobStatus] = MappingProxyType(
    {
        pb.JOB_STATE_READY: JobStatus.READY,
        pb.JOB_STATE_LEASED: JobStatus.RUNNING,
        pb.JOB_STATE_PARKED: JobStatus.PARKED,
        pb.JOB_STATE_COMPLETED: JobStatus.COMPLETED,
        pb.JOB_STATE_FAILED: JobStatus.FAILED,
        pb.JOB_STATE_CANCELLED: JobStatus.CANCELLED,
    }
)
_STATES: Mapping[str, JobState] = {status: state for state, status in STATUSES.items()}


def state_of(status: str) -> JobState:
    state = _STATES.get(status)
    if state is None:
        raise Invalid(f"status is one of {', '.join(_STATES)}", field="status")
    return state
