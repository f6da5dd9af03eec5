"""Tokens, with which one wait of a job is ended once. A module of its own, as each noun of the API has; it is small,
because content is any JSON, and only a failure has a shape."""

from __future__ import annotations

from pydantic import Field

from aetheris_api.shape import Body, Shape


class FailedBody(Body):
    error: str = Field(max_length=1024, description="What went wrong.")


class TokenAnswer(Shape):
    job_id: str = Field(description="The job that receives the content.")
    created: bool = Field(description="False if the same content had been accepted before.")
