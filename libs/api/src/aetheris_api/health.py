"""Whether a gateway works. It stands alone: health has no other shapes, and belongs to no other noun."""

from __future__ import annotations

from pydantic import Field

from aetheris_api.shape import Shape


class Check(Shape):
    status: str = Field(description="ok or down.")
    message: str | None = None


class Health(Shape):
    status: str = Field(description="ok; degraded (signals are accepted, not everything works); draining; or down.")
    checks: dict[str, Check]
