"""Ids: UUIDv7, so that ids sort by age and a range of ids is a range of time. Alone, because time is no part of it."""

from __future__ import annotations

import uuid

from aetheris_kernel.errors import Invalid


def uuid7(unix_ms: int, randomness: int) -> uuid.UUID:
    """A UUID of RFC 9562 version 7, made of a moment and 74 random bits."""
    rand_a = (randomness >> 62) & 0xFFF
    rand_b = randomness & ((1 << 62) - 1)
    return uuid.UUID(int=(unix_ms & ((1 << 48) - 1)) << 80 | 7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b)


def parse_job_id(text: str) -> uuid.UUID:
    """A job id from a request. Only the canonical form is accepted, so that a job has one id."""
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != text:
        raise Invalid("a job id is a lower-case UUID, as the submission returned it", field="job_id")
    return parsed
