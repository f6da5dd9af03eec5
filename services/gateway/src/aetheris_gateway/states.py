"""Where a job stands, and how that is called outside."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from aetheris_kernel.errors import Invalid
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb

JobState = pb.JobState

FINISHED = frozenset({pb.JOB_STATE_COMPLETED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED})

STATUSES: Mapping[JobState, str] = MappingProxyType(
    {
        pb.JOB_STATE_READY: "ready",
        pb.JOB_STATE_LEASED: "running",
        pb.JOB_STATE_PARKED: "parked",
        pb.JOB_STATE_COMPLETED: "completed",
        pb.JOB_STATE_FAILED: "failed",
        pb.JOB_STATE_CANCELLED: "cancelled",
    }
)
_STATES = {status: state for state, status in STATUSES.items()}


def state_of(status: str) -> pb.JobState:
    state = _STATES.get(status)
    if state is None:
        raise Invalid(f"status is one of {', '.join(_STATES)}", field="status")
    return state
