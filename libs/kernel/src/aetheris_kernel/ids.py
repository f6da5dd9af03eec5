"""Ids: UUIDv7, so that ordering by id is ordering by age and range partitions are time partitions."""

from __future__ import annotations

import uuid

from aetheris_kernel.errors import Invalid


def uuid7(unix_ms: int, randomness: int) -> uuid.UUID:
    """RFC 9562 version 7 from a moment and 74 random bits."""
    rand_a = (randomness >> 62) & 0xFFF
    rand_b = randomness & ((1 << 62) - 1)
    return uuid.UUID(int=(unix_ms & ((1 << 48) - 1)) << 80 | 7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b)


def parse_job_id(text: str) -> uuid.UUID:
    """A job id as callers write it. Only the canonical form: one job has one name."""
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != text:
        raise Invalid("a job id is a lower-case UUID, as the submission returned it", field="job_id")
    return parsed
