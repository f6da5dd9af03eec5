"""Side effects: how they are listed, and how a person resolves one in doubt."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from aetheris_api.shape import Body, Shape, one_of
from aetheris_api.statuses import EffectStatus


class Effect(Shape):
    key: str
    state: str = Field(description=f"{one_of(EffectStatus)}.")
    tool: str
    job_id: str
    seq: int
    lease: int
    arguments_digest: str = ""
    result_digest: str | None = None
    updated_at: datetime | None
    verdict: str | None = Field(
        description="The resolution that a person or a late outcome gave, while the job has not recorded it yet."
    )


class EffectPage(Shape):
    effects: list[Effect]
    next_cursor: str | None


class ResolveBody(Body):
    verdict: str = Field(
        max_length=32,
        description="committed: the tool ran, and `result` is what it returned. not_executed: the tool did not run, "
        "and the job calls it again. abandoned: nothing will ever tell whether it ran; the agent gets an error.",
    )
    result: Any = Field(None, description="What the tool returned, with committed; at most 256 KiB.")
    note: str = Field("", max_length=1024, description="How you know; it goes on record.")
