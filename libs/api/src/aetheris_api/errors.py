"""How every refusal looks, and how an error of a job is shown: a module of its own, because all others use it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from aetheris_api.shape import Shape


class ErrorDetail(Shape):
    code: str = Field(description="Which rule refused the request, e.g. JOB_FINISHED.")
    message: str = Field(description="The reason, for people.")
    details: dict[str, Any] = Field(description="Facts, e.g. the field that is wrong.")


class Error(Shape):
    error: ErrorDetail


class Failure(Shape):
    """An error that agent code raised, as it is on record."""

    type: str
    message: str = ""
    retryable: bool = False
    stack: str = ""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type
