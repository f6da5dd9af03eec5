"""Signals and messages: what callers send to a job's inbox. A module of its own, as each noun of the API has."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from aetheris_api.shape import Body, Shape


class SignalBody(Body):
    correlation_key: str = Field(max_length=256, description="The key of the wait that this signal ends.")
    payload: Any = Field(None, description="What the wait returns; at most 256 KiB.")


class MessageBody(Body):
    channel: str = Field(max_length=256)
    message_id: str = Field(
        max_length=256, description="The sender's id, unique within the job: it makes a repetition safe."
    )
    payload: Any = Field(None, description="At most 256 KiB.")


class SignalAnswer(Shape):
    signal_id: str
    created: bool = Field(description="False if a signal with this key had been accepted before.")


class MessageAnswer(Shape):
    message_id: str
    created: bool = Field(description="False if a message with this id had been accepted before.")
