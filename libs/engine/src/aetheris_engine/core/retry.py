"""When a failed attempt is followed by another."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol


class Policy(Protocol):
    """What an author has asked for; spans are already spans."""

    @property
    def attempts(self) -> int: ...
    @property
    def factor(self) -> float: ...
    @property
    def jitter(self) -> float: ...
    @property
    def first_pause(self) -> timedelta: ...
    @property
    def most_pause(self) -> timedelta: ...
    @property
    def window(self) -> timedelta | None: ...


def next_attempt(
    policy: Policy, *, attempt: int, asked: timedelta | None, began: datetime, now: datetime, roll: float
) -> datetime | None:
    """The moment of the attempt after `attempt`, which has failed; None where that was the last.

    `asked` is the pause that the error itself asks for. `roll`, from 0 to 1, is the luck of the jitter: it
    is drawn once, and what is recorded is the moment.
    """
    if attempt >= policy.attempts:
        return None
    try:
        moment = now + (_backoff(policy, attempt, roll) if asked is None else asked)
    except OverflowError:
        return None
    window = policy.window
    return None if window is not None and moment - began > window else moment


def _backoff(policy: Policy, attempt: int, roll: float) -> timedelta:
    most_s = policy.most_pause.total_seconds()
    try:
        pause_s = min(policy.first_pause.total_seconds() * policy.factor ** (attempt - 1), most_s)
    except OverflowError:
        pause_s = most_s
    return timedelta(seconds=pause_s * (1 + policy.jitter * (2 * roll - 1)))
