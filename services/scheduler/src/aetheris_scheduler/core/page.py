"""Pages of lists: which jobs, how many, and the token that says where the last page ended.

Callers pass tokens back and do not read them.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from aetheris_kernel.errors import Invalid

from aetheris_scheduler.core.job import JobState

PAGE_DEFAULT = 100
PAGE_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class JobListing:
    """A page of a tenant's jobs, newest first. Empty and None mean any."""

    tenant: str
    states: Sequence[JobState] = ()
    agent: str = ""
    queue: str = ""
    parent: UUID | None = None
    before: UUID | None = None
    limit: int = PAGE_DEFAULT


def checked_listing(listing: JobListing) -> JobListing:
    if not listing.tenant:
        raise Invalid("a list is of one tenant", field="tenant")
    for text, field in ((listing.tenant, "tenant"), (listing.agent, "agent"), (listing.queue, "queue")):
        if "\0" in text:
            raise Invalid(f"no {field} is named like that", field=field)
    return listing


def page_size(asked: int) -> int:
    return min(asked, PAGE_MAX) or PAGE_DEFAULT


def to_token(*place: str) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def job_after(token: str) -> UUID | None:
    """A token of a list of jobs, which goes by id."""
    if not token:
        return None
    (job,) = _place(token, 1)
    try:
        return UUID(job)
    except ValueError:
        raise _not_ours() from None


def moment_after(token: str) -> tuple[datetime, UUID] | None:
    """A token of a list of stuck jobs, which goes by the moment since which they are stuck."""
    if not token:
        return None
    moment, job = _place(token, 2)
    try:
        since = datetime.fromisoformat(moment)
        if since.tzinfo is None:
            raise _not_ours()
        return since, UUID(job)
    except ValueError:
        raise _not_ours() from None


def runner_after(token: str) -> tuple[str, UUID] | None:
    """A token of a list of runners, which goes by runner id and session."""
    if not token:
        return None
    runner, session = _place(token, 2)
    try:
        # Half a character or a NUL cannot be stored, so neither was ever in a token of ours.
        runner.encode()
        return runner.replace("\0", ""), UUID(session)
    except ValueError:
        raise _not_ours() from None


def deployment_after(token: str) -> tuple[str, str]:
    """A token of a list of deployments, which goes by agent and version."""
    if not token:
        return "", ""
    agent, version = _place(token, 2)
    if "\0" in agent + version or not (agent + version).isprintable():
        raise _not_ours()
    return agent, version


def _place(token: str, parts: int) -> Sequence[str]:
    try:
        place = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, binascii.Error, RecursionError):
        raise _not_ours() from None
    if not isinstance(place, list) or len(place) != parts or not all(isinstance(part, str) for part in place):
        raise _not_ours()
    return place


def _not_ours() -> Invalid:
    return Invalid("this page token is not one of ours", field="page_token")
