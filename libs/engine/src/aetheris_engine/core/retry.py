"""Decides when a failed attempt is followed by another. A module of its own because steps and tools share the rule."""

from __future__ import annotations

from datetime import datetime, timedelta

from aetheris_journal.commands import Backoff

# The policy of a command whose author asked for no retries.
ONCE = Backoff()


def next_attempt(
    backoff: Backoff, *, attempt: int, asked: timedelta | None, began: datetime, now: datetime, roll: float
) -> datetime | None:
    """The moment of the attempt after `attempt`, which has failed; None if that was the last one.

    `asked` is the pause that the error itself asks for. `roll`, from 0 to 1, sets the jitter. It is drawn once: the
    resulting moment is recorded, and a resumed run reads it from there.
    """
    if attempt >= backoff.attempts:
        return None
    try:
        moment = now + (_pause(backoff, attempt, roll) if asked is None else asked)
    except OverflowError:
        return None
    return None if backoff.window is not None and moment - began > backoff.window else moment


def _pause(backoff: Backoff, attempt: int, roll: float) -> timedelta:
    most_s = backoff.most_pause.total_seconds()
    try:
        pause_s = min(backoff.first_pause.total_seconds() * backoff.factor ** (attempt - 1), most_s)
    except OverflowError:
        pause_s = most_s
    return timedelta(seconds=pause_s * (1 + backoff.jitter * (2 * roll - 1)))
