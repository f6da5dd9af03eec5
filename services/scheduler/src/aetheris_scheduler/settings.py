"""The scheduler's settings. Alone in its module, because it is the only reader of the environment."""

from __future__ import annotations

from aetheris_chassis.settings import ServiceSettings
from pydantic import Field


class Settings(ServiceSettings):
    listen: str = Field("127.0.0.1:9091", description="Where the gRPC server listens: host:port, or unix:/path.")
    lease_s: float = Field(
        5.0,
        ge=0.2,
        le=300,
        description="How long a runner that falls silent keeps its jobs.",
    )
    grace_s: float = Field(
        1.0, ge=0, le=300, description="How long a runner whose stream is lost keeps its jobs, to come back for them."
    )
    crash_limit: int = Field(
        8, ge=1, le=1000, description="Leases a job may lose in a row without progress before it is parked as poisoned."
    )
    queue_ready_max: int = Field(
        0, ge=0, description="Ready jobs a queue may hold before submissions are refused with 429; 0 for any number."
    )
    stuck_after_s: float = Field(
        300.0,
        gt=0,
        description="How long a job may wait for a runner, or run without a commit, until it is stuck.",
    )
