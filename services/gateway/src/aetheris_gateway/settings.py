"""The gateway's settings, and the only module that reads the environment. It is small because the chassis has the
settings of all services."""

from __future__ import annotations

from aetheris_chassis.settings import ServiceSettings
from pydantic import Field


class Settings(ServiceSettings):
    listen: str = Field("127.0.0.1:9090", description="Where the gRPC API listens: host:port, or unix:/path.")
    signals_listen: str = Field(
        "127.0.0.1:9094",
        description="Where the runners' own service listens: host:port, or unix:/path. No client may reach it.",
    )
    http_listen: str = Field("127.0.0.1:8080", description="Where REST and the pages listen: host:port, or unix:/path.")
    http_hosts: str = Field(
        "",
        description="The names under which REST and the pages are called, beside localhost, with commas between them. "
        "Needed where http_listen is beyond loopback. * accepts every name.",
    )
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
    waits_max: int = Field(
        5000, ge=1, description="How many requests may wait at once, event streams included; more are refused with 429."
    )
    waits_per_caller_max: int = Field(2500, ge=1, description="How many of those may be of one caller.")
