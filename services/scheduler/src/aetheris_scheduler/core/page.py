"""Page tokens: where the last page ended, opaque to whoever carries them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from aetheris_kernel.errors import Invalid

PAGE_DEFAULT = 100
PAGE_MAX = 1_000


def page_size(asked: int) -> int:
    return min(asked, PAGE_MAX) or PAGE_DEFAULT


def to_token(*place: str) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def job_after(token: str) -> UUID | None:
    """Jobs, by id."""
    if not token:
        return None
    (job,) = _place(token, 1)
    try:
        return UUID(job)
    except ValueError:
        raise _not_ours() from None


def moment_after(token: str) -> tuple[datetime, UUID] | None:
    """Stuck jobs, by since when."""
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
    """Sessions, by runner and session."""
    if not token:
        return None
    runner, session = _place(token, 2)
    try:
        # Text that no database stores was never in a token of ours.
        runner.encode()
        return runner.replace("\0", ""), UUID(session)
    except ValueError:
        raise _not_ours() from None


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
