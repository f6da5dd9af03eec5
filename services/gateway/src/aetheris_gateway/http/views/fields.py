"""Moments, durations and failures, which shapes of several nouns have. They stand alone so that views need no other
views."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from aetheris_api.errors import Failure
from aetheris_journal import codec
from aetheris_journal import events as e
from aetheris_proto.ledger.v1 import event_pb2 as event_pb
from google.protobuf.timestamp_pb2 import Timestamp


def time_of(message: Any, field: str) -> datetime | None:
    """A field that may be absent."""
    return codec.from_timestamp(getattr(message, field)) if message.HasField(field) else None


def stamp_of(stamp: Timestamp) -> datetime:
    return codec.from_timestamp(stamp)


def milliseconds(span: timedelta | None) -> float | None:
    return None if span is None else round(span.total_seconds() * 1000, 3)


def failure_of(failure: e.Failure | event_pb.Failure | None) -> Failure | None:
    """A failure from the record or from the wire; both name its parts alike."""
    if failure is None:
        return None
    return Failure(type=failure.type, message=failure.message, retryable=failure.retryable, stack=failure.stack)
