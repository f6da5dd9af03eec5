"""Outcomes and cancels as runners and callers send them: checked, and with text that can be stored.

Text is for people, so text that is too long is cut: an outcome must not be lost because of it. A value that would
change what happens to the job is refused.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from aetheris_kernel.errors import Invalid

from aetheris_scheduler.core.job import Failure, JobState
from aetheris_scheduler.core.lifecycle import UNSERVED, Cancel, End, Park, Progress, Release, Terminate
from aetheris_scheduler.core.session import VERSION_CHARS_MAX

REASON_CHARS_MAX = 1_024
NOTE_CHARS_MAX = 256
DELAY_MAX = timedelta(days=1)
FAILURE_MESSAGE_CHARS_MAX = 8 * 1024
FAILURE_STACK_CHARS_MAX = 16 * 1024
LEASE_MAX = (1 << 63) - 1


def lease(number: int) -> int:
    """A lease number that the store can compare. No lease is above the limit, so none is mistaken for another."""
    return min(number, LEASE_MAX)


def park(reason: str, wake_at: datetime | None, *, operator: bool, wants: str) -> Park:
    _check_version(wants)
    return Park(_needed(wants, reason), wake_at, operator, wants)


def release(reason: str, delay: timedelta, *, needs_code: bool, wants: str) -> Release:
    _check_version(wants)
    return Release(_needed(wants, reason), min(delay, DELAY_MAX), needs_code, wants)


def _check_version(version: str) -> None:
    if len(version) > VERSION_CHARS_MAX or "\0" in version:
        raise Invalid(f"a version is at most {VERSION_CHARS_MAX} characters", field="wants_version")


def _needed(version: str, reason: str) -> str:
    """The reason for people, beginning with what is to be deployed."""
    if version:
        reason = f"{UNSERVED.format(version=version)}; {reason}"
    return _text(reason, REASON_CHARS_MAX)


def end(state: JobState | None, result: bytes, failure: Failure | None) -> End:
    if state is None or not state.ended:
        raise Invalid("a job ends COMPLETED, FAILED or CANCELLED", field="state")
    return End(state, result if state is JobState.COMPLETED else None, failure)


def progress(fraction: float | None, note: str) -> Progress:
    if fraction is not None and not 0 <= fraction <= 1:
        raise Invalid("fraction is a number from 0 to 1", field="fraction")
    if fraction is None and not note:
        return Progress()
    return Progress(fraction, _text(note, NOTE_CHARS_MAX))


def failure(kind: str, message: str, *, retryable: bool, stack: str) -> Failure:
    return Failure(
        _text(kind, REASON_CHARS_MAX),
        _text(message, FAILURE_MESSAGE_CHARS_MAX),
        retryable,
        _text(stack, FAILURE_STACK_CHARS_MAX),
    )


def cancel(reason: str, actor: str) -> Cancel:
    return Cancel(_reason(reason), _text(actor, REASON_CHARS_MAX))


def terminate(reason: str, actor: str) -> Terminate:
    return Terminate(_reason(reason), _text(actor, REASON_CHARS_MAX))


def _reason(reason: str) -> str:
    if len(reason) > REASON_CHARS_MAX:
        raise Invalid(f"a reason is at most {REASON_CHARS_MAX} characters", field="reason")
    return _text(reason, REASON_CHARS_MAX)


def _text(text: str, chars_max: int) -> str:
    # PostgreSQL stores no NUL character.
    return text[:chars_max].replace("\0", "\ufffd")
