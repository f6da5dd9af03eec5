"""Ids: UUIDv7, so that ids sort by age and a range of ids is a range of time.

A job's id also says its *bucket*, one of 4,096: the twelve bits behind the version. Buckets are how jobs are spread
over databases and replicas, for ever: what belongs together has one bucket. A child has its parent's. A submission with
an idempotency key has the one that tenant, agent and key give, so that the same submission is looked for in one place.
All other jobs have a random one.

    0190f1f0-aaaa-7BBB-8ccc-0123456789ab        BBB: the bucket
"""

from __future__ import annotations

import uuid
from hashlib import sha256

from aetheris_kernel.errors import Invalid

BUCKETS = 4_096

_BUCKET_SHIFT = 64


def uuid7(unix_ms: int, randomness: int) -> uuid.UUID:
    """A UUID of RFC 9562 version 7, made of a moment and 74 random bits. The first twelve of these are the bucket."""
    rand_a = (randomness >> 62) & (BUCKETS - 1)
    rand_b = randomness & ((1 << 62) - 1)
    return uuid.UUID(int=(unix_ms & ((1 << 48) - 1)) << 80 | 7 << 76 | rand_a << _BUCKET_SHIFT | 0b10 << 62 | rand_b)


def bucket_of(job_id: uuid.UUID) -> int:
    """The bucket of a job, from 0 to 4,095."""
    return job_id.int >> _BUCKET_SHIFT & (BUCKETS - 1)


def in_bucket(job_id: uuid.UUID, bucket: int) -> uuid.UUID:
    """The same id in that bucket."""
    if not 0 <= bucket < BUCKETS:
        raise ValueError(f"there are buckets from 0 to {BUCKETS - 1}, and no {bucket}")
    return uuid.UUID(int=job_id.int & ~((BUCKETS - 1) << _BUCKET_SHIFT) | bucket << _BUCKET_SHIFT)


def bucket_of_key(tenant: str, agent: str, key: str) -> int:
    """The bucket of the jobs that are submitted under an idempotency key."""
    digest = sha256()
    for part in (tenant, agent, key):
        text = part.encode()
        digest.update(len(text).to_bytes(4, "big") + text)
    return int.from_bytes(digest.digest()[:2], "big") % BUCKETS


def parse_job_id(text: str) -> uuid.UUID:
    """A job id from a request. Only the canonical form is accepted, so that a job has one id."""
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        parsed = None
    if parsed is None or str(parsed) != text:
        raise Invalid("a job id is a lower-case UUID, as the submission returned it", field="job_id")
    return parsed
