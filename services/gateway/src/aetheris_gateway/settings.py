"""The gateway's settings, and the only module that reads the environment. It is small because the chassis has the
settings of all services."""

from __future__ import annotations

from aetheris_chassis.settings import ServiceSettings
from pydantic import Field


class Settings(ServiceSettings):
    listen: str = Field("127.0.0.1:9090", description="Where the gRPC API listens: host:port, or unix:/path.")
    http_listen: str = Field("127.0.0.1:8080", description="Where REST and the pages listen: host:port, or unix:/path.")
    scheduler_address: str = Field("127.0.0.1:9091", description="The scheduler's gRPC address.")
    ledger_address: str = Field("127.0.0.1:9093", description="The ledger's gRPC address.")
    sweep_every_s: float = Field(
        1.0, gt=0, le=60, description="How often the sweep looks for inbox entries whose job was not woken."
    )
    sweep_after_s: float = Field(
        1.0,
        ge=0,
        le=3600,
        description="How old such an entry must be; the gateway is still waking the jobs of younger ones.",
    )
    streams_max: int = Field(
        1000, ge=1, description="How many event streams are served at once; more are refused with 429."
    )
