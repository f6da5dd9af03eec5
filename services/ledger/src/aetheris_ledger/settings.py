"""The ledger's settings. Alone in its module, because it is the only reader of the environment."""

from __future__ import annotations

from aetheris_chassis.settings import ServiceSettings
from pydantic import Field


class Settings(ServiceSettings):
    listen: str = Field("127.0.0.1:9093", description="Where the gRPC server listens: host:port, or unix:/path.")
    body_format: int = Field(
        2,
        ge=1,
        le=2,
        description="The format in which runners shall write commits. While runners or gateways of a version before "
        "format 2 are still connected, 1: they cannot read the newer one.",
    )
    database_pool_max: int = Field(
        4,
        ge=2,
        le=200,
        description="The most connections this process opens: one for the writer, the others for readers. Half of "
        "those may be verifying chains at one time.",
    )
    batch_rows_max: int = Field(500, ge=1, le=5_000, description="The most commits one transaction writes.")
    batch_queue_max: int = Field(
        20_000, ge=1, description="The most appends that wait for the writer; beyond it they are answered UNAVAILABLE."
    )
    stream_requests_max: int = Field(
        4_000, ge=1, description="The most requests one Journal stream may have open before its next frame is read."
    )
    stream_bytes_max: int = Field(
        16 * 1024 * 1024, ge=1, description="The most bytes those may hold, questions and unsent answers together."
    )
    stream_loads_max: int = Field(64, ge=1, description="The most chains one Journal stream loads at one time.")
    watchers_max: int = Field(10_000, ge=1, description="The most open Watch calls; beyond it they are refused.")
    watch_poll_s: float = Field(
        0.2, gt=0, description="How often commits of other replicas are looked for while a chain is watched."
    )
