"""A submission: the limits, and when two submissions are the same request."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from aetheris_journal.limits import INPUT_BYTES_MAX
from aetheris_kernel.errors import Exhausted, Invalid, KeyReused

from aetheris_scheduler.core.job import Fork, Job, JobState

KEY_CHARS_MAX = 256
NAME_CHARS_MAX = 128
TRACEPARENT_CHARS_MAX = 128
PRIORITY_MAX = 100
BATCH_MAX = 1_000
BATCH_BYTES_MAX = 4 * 1024 * 1024
DEFAULT_QUEUE = "default"
ACTOR_CHARS_MAX = 1_024
PATH_CHARS_MAX = 1_024
FORK_EFFECTS = ("reuse", "ask", "block")
QUEUE_FULL_RETRY_S = 1.0

_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{NAME_CHARS_MAX}}}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A request for a new job. The caller may choose `id`. If it does not, the scheduler makes one before the first
    attempt to store the job, so that a second attempt does not store it twice."""

    id: UUID
    tenant: str
    agent: str
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    input: bytes
    idempotency_key: str = ""
    parent: UUID | None = None
    deadline: datetime | None = None
    start_after: datetime | None = None
    traceparent: str = ""
    actor: str = ""
    fork: Fork | None = None
    digest: bytes = b""


def checked(submission: Submission, *, input_checked: bool = False) -> Submission:
    """The submission with its queue and digest filled in. Raises Invalid, which names the field that is wrong.

    `input_checked`: the caller has parsed the input, so its size is checked here and the rest is not done twice."""
    _check_name("tenant", submission.tenant)
    _check_name("agent", submission.agent)
    queue = submission.queue or DEFAULT_QUEUE
    _check_name("queue", queue)
    if abs(submission.priority) > PRIORITY_MAX:
        raise Invalid(f"priority is between -{PRIORITY_MAX} and {PRIORITY_MAX}", field="priority")
    if submission.id.version != 7:
        raise Invalid("a chosen job id is a UUIDv7", field="job_id")
    _check_text("idempotency_key", submission.idempotency_key, KEY_CHARS_MAX)
    _check_text("traceparent", submission.traceparent, TRACEPARENT_CHARS_MAX)
    _check_text("actor", submission.actor, ACTOR_CHARS_MAX)
    if submission.parent == submission.id:
        raise Invalid("no job is its own parent", field="parent_job_id")
    if submission.fork is not None:
        _check_fork(submission.fork)
    _check_input(submission.input, parsed=input_checked)
    given = _canonical(submission.input) if submission.idempotency_key else submission.input
    return replace(submission, queue=queue, digest=_digest(submission, queue, given))


def check_batch(sizes: Sequence[int]) -> None:
    if len(sizes) > BATCH_MAX:
        raise Invalid(f"at most {BATCH_MAX} submissions in one batch", field="requests")
    if sum(sizes) > BATCH_BYTES_MAX:
        raise Invalid(f"at most {BATCH_BYTES_MAX} bytes in one batch", field="requests")


def require_same(submission: Submission, existing: Job) -> None:
    """Raises KeyReused where the key or the chosen id belongs to a job that another request made."""
    # Jobs that earlier releases stored have the digest of the input's own bytes.
    if existing.digest not in (submission.digest, _digest(submission, submission.queue, submission.input)):
        raise KeyReused("this key belongs to another request", job_id=existing.id)


def born(submission: Submission, now: datetime) -> Job:
    """The new job: ready, or parked until `start_after`."""
    early = submission.start_after is not None and submission.start_after > now
    return Job(
        id=submission.id,
        tenant=submission.tenant,
        agent=submission.agent,
        queue=submission.queue,
        priority=submission.priority,
        state=JobState.PARKED if early else JobState.READY,
        since=now,
        created_at=now,
        park_reason="not before its time" if early else "",
        wake_at=submission.start_after if early else None,
        start_after=submission.start_after,
        deadline=submission.deadline,
        parent=submission.parent,
        idempotency_key=submission.idempotency_key,
        digest=submission.digest,
        traceparent=submission.traceparent,
        input=submission.input,
        actor=submission.actor,
        fork=submission.fork,
    )


def queue_full(queue: str, limit: int) -> Exhausted:
    return Exhausted(f"{limit} jobs wait in this queue", queue=queue, retry_after_s=QUEUE_FULL_RETRY_S)


def _canonical(given: bytes) -> bytes:
    """The input as JSON with sorted members and no space: the same request may be written in several ways."""
    try:
        return json.dumps(json.loads(given), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, RecursionError):
        # A number that Python cannot hold, for instance: only the same bytes are the same input.
        return given


def _digest(submission: Submission, queue: str, given: bytes) -> bytes:
    """The digest of all fields that make two submissions the same request. Left out are the moments, which a caller
    computes from its present time and so differ when it sends the request again, the trace, the chosen id and the
    requester."""
    # No part has a line break in it, so two different requests never make the same text.
    head = f"{submission.tenant}\n{submission.agent}\n{queue}\n{submission.priority}\n{submission.parent or ''}\n"
    if (fork := submission.fork) is not None:
        head += f"fork {fork.from_job} {fork.at_seq} {fork.effects} {fork.before_path}\n"
    return sha256(head.encode() + given).digest()


def _check_name(field: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise Invalid(f"{field} is 1 to {NAME_CHARS_MAX} characters of A-Z a-z 0-9 . _ -", field=field)


def _check_text(field: str, text: str, chars_max: int) -> None:
    if len(text) > chars_max or _CONTROL.search(text):
        raise Invalid(f"{field} is at most {chars_max} characters, none of them a control character", field=field)


def _check_fork(fork: Fork) -> None:
    if not 1 <= fork.at_seq < 1 << 63:
        raise Invalid("a fork is taken at a commit, from 1", field="at_seq")
    if fork.effects not in FORK_EFFECTS:
        raise Invalid(f"a fork's effects are one of {', '.join(FORK_EFFECTS)}", field="effects")
    _check_text("before_path", fork.before_path, PATH_CHARS_MAX)


def _check_input(raw: bytes, *, parsed: bool) -> None:
    if len(raw) > INPUT_BYTES_MAX:
        raise Invalid(f"input is at most {INPUT_BYTES_MAX} bytes", field="input")
    if parsed:
        return
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Invalid("input is a JSON object", field="input")
