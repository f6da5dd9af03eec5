"""The settings that all services share, read from environment variables named `AETHERIS_…`.

A service subclasses `ServiceSettings` in its own `settings.py`, which is the only place that reads the
environment: it gives `listen` its default and adds its own fields.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="AETHERIS_", frozen=True, extra="ignore")

    listen: str = Field(description="Where the gRPC server listens: host:port, or unix:/path.")
    metrics_listen: str = Field(
        "", description="host:port that serves /metrics and /healthz over HTTP; empty for neither."
    )
    database_url: str = Field("", description="The PostgreSQL of this service: postgresql://user@host/database.")
    database_role: str = Field(
        "",
        max_length=63,
        description="For `migrate`: the role as which the service connects, if another one migrates. It is granted "
        "what the service needs.",
    )
    database_pool_max: int = Field(4, ge=1, le=200, description="The most connections this process opens.")
    database_statement_cache: bool = Field(
        True,
        description="Keep prepared statements in connections. Turn off behind a pooler in transaction mode that does "
        "not track them.",
    )
    database_statement_s: float = Field(
        10.0,
        gt=0,
        le=300,
        description="How long one statement may take. Then its connection is closed, and the caller may try again.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is logged.")
    drain_s: float = Field(20.0, ge=0, description="How long calls in flight may go on once the service stops.")
    trust_network: bool = Field(
        False,
        description="Listen beyond loopback without transport security, on a network where every peer is trusted.",
    )
    replaceable: bool = Field(
        False, description="Share the ports with the process that follows this one in place, as Aeterna starts it."
    )
    connection_age_s: float = Field(
        10.0, gt=0, le=3600, description="How old a gRPC connection gets before its client is moved, if replaceable."
    )
    otlp_endpoint: str = Field("", description="Where spans go, by OTLP over gRPC; empty for nowhere.")
