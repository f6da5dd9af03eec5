"""The chain: each commit names the one before it by hash, as in git.

    hash = SHA-256(parent ‖ job ‖ seq ‖ lease ‖ time ‖ body)

parent is 32 bytes, job the UUID's 16, the numbers 8 bytes big-endian, time in microseconds since
1970. Everything before the body has a fixed width, so no two different commits share an input.

That is format 1. Of a body of format 2 the hash covers the head, and the head covers the payloads (see `sealed`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from aetheris_journal.sealed import hashed, is_sealed, problem_of

GENESIS = bytes(32)

_PREFIX = struct.Struct(">32s16sQQQ")


@dataclass(frozen=True, slots=True)
class Commit:
    seq: int
    lease: int
    time_us: int
    hash: bytes
    body: bytes
    # With a body of format 2: the key from which the salts of its payloads follow.
    key: bytes = b""


@dataclass(frozen=True, slots=True)
class Break:
    """The first commit that is wrong, and how."""

    seq: int
    problem: str


def commit_hash(parent: bytes, job: UUID, seq: int, lease: int, time_us: int, body: bytes) -> bytes:
    return sha256(_PREFIX.pack(parent, job.bytes, seq, lease, time_us) + hashed(body)).digest()


def first_break(
    job: UUID, commits: Iterable[Commit], *, after: int = 0, parent: bytes = GENESIS, lease: int = 0
) -> Break | None:
    """The first place where `commits` do not continue the chain that ends in `parent`, under `lease`, at `after`.

    A chain whose last commits were cut off is whole in itself. Only a reader that knows the hash of the last commit
    notices, so exports and effects carry that hash.
    """
    for expected, commit in enumerate(commits, after + 1):
        if commit.seq != expected:
            return Break(expected, f"commit {expected} is missing: {commit.seq} follows {expected - 1}")
        if commit.lease < lease:
            return Break(expected, f"lease {commit.lease} follows lease {lease}")
        if commit.hash != commit_hash(parent, job, commit.seq, commit.lease, commit.time_us, commit.body):
            return Break(expected, "the hash does not match the commit's content and its parent")
        if is_sealed(commit.body) and (problem := problem_of(commit.body, commit.key)) is not None:
            return Break(expected, problem)
        parent, lease = commit.hash, commit.lease
    return None
