"""Retry policies: how often, and how long apart, a step or tool is tried."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from aetheris_journal.commands import Backoff

from aetheris.durations import to_span
from aetheris.errors import ContractViolation, Permanent, RetryAfter, ValueRefused

# Errors that no later attempt could avoid.
_HOPELESS = (Permanent, ValueRefused, ContractViolation)


@dataclass(frozen=True, slots=True)
class Retry:
    """`attempts` in all, the first included. Pauses grow from `first` by `factor` up to `most`, each longer or
    shorter by up to the share `jitter`. With `within`, no attempt begins that long after the first began.
    Errors of the classes in `unless` are final at once."""

    attempts: int = 5
    first: str | float | timedelta = "1s"
    factor: float = 2.0
    most: str | float | timedelta = "5m"
    jitter: float = 0.2
    within: str | float | timedelta | None = None
    unless: tuple[type[Exception], ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= 10_000:
            raise ValueError("attempts counts from 1, and 10,000 is the most")
        if self.factor < 1:
            raise ValueError("factor is 1 or more: pauses do not shrink")
        if not 0 <= self.jitter <= 1:
            raise ValueError("jitter is a share of the pause, from 0 to 1")
        for span in (self.first, self.most, self.within):
            if span is not None:
                to_span(span)

    @property
    def first_pause(self) -> timedelta:
        return to_span(self.first)

    @property
    def most_pause(self) -> timedelta:
        return to_span(self.most)

    @property
    def window(self) -> timedelta | None:
        return None if self.within is None else to_span(self.within)

    @property
    def backoff(self) -> Backoff:
        """The part of the policy that a command carries."""
        return Backoff(self.attempts, self.first_pause, self.factor, self.most_pause, self.jitter, self.window)

    def hopeless(self, error: BaseException) -> bool:
        return isinstance(error, (*_HOPELESS, *self.unless)) or not isinstance(error, Exception)


# The policy of a definition without one.
ONCE = Retry(attempts=1)


def to_retry(retry: Retry | int | None) -> Retry:
    """`retry=3` means three attempts in all."""
    if retry is None:
        return ONCE
    return Retry(attempts=retry) if isinstance(retry, int) else retry


def asked_pause(error: BaseException) -> timedelta | None:
    """The pause that the error itself asks for with its `retry_after`, if it does."""
    asked = getattr(error, "retry_after", None)
    if asked is None or isinstance(asked, bool):
        return None
    try:
        return to_span(asked)
    except (TypeError, ValueError, OverflowError):
        # Another library's attribute of the same name, which is no span of time.
        return None


__all__ = ["ONCE", "Retry", "RetryAfter", "asked_pause", "to_retry"]
