"""A job's record: its events, its commits as they are stored, and whether its chain is intact."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from aetheris_api.shape import Shape


class Event(Shape):
    """One fact about a job, e.g. of type "step_committed"."""

    seq: int = Field(description="The commit that holds the event.")
    type: str = Field(description="e.g. step_committed.")
    at: datetime | None = Field(description="The time by the runner's clock.")
    recorded_at: datetime = Field(description="When the ledger accepted the commit.")
    lease: int
    hash: str = Field(description="The commit's hash, in hex.")
    data: dict[str, Any]

    def __str__(self) -> str:
        name = self.data.get("name") or self.data.get("agent") or ""
        return f"{self.seq} {self.type} {name}".rstrip()


class EventPage(Shape):
    events: list[Event]
    next_after: int | None = Field(description="Where the next page begins; null on the last page.")


class Commit(Shape):
    """One message of the live stream."""

    seq: int
    lease: int
    recorded_at: datetime
    hash: str
    events: list[Event]


class StoredCommit(Shape):
    """A commit with the bytes that its hash was computed over."""

    seq: int
    lease: int
    time: datetime = Field(description="When the ledger accepted it, to the microsecond.")
    hash: str = Field(
        description="SHA-256(parent ‖ job ‖ seq ‖ lease ‖ time ‖ body), in hex; the parent of the next commit. Of a "
        "body of format 2 the head is hashed."
    )
    body: str = Field(
        description="The exact bytes of the commit, in base64: an aetheris.ledger.v1.Body, or, with a first byte of 2, "
        "a body of format 2."
    )
    key: str = Field("", description="With a body of format 2: what its payloads are checked with, in hex.")


class CommitPage(Shape):
    commits: list[StoredCommit]
    next_after: int | None = Field(description="Where the next page begins; null on the last page.")


class Verification(Shape):
    """Whether a job's chain is intact: every hash, every place, every effect."""

    job_id: str
    intact: bool
    commits: int
    events: int
    effects: int
    head: str = Field(description="The hash of the last good commit, in hex.")
    bad_seq: int | None = Field(description="The first bad commit.")
    problem: str | None
