"""The errors that an author can meet."""

from __future__ import annotations

from datetime import timedelta


class AetherisError(Exception):
    """The base class of the errors of this package."""


class ContractViolation(AetherisError):
    """The agent's code does something that would make its record worthless. The message says what, and what to do
    instead."""


class ValueRefused(AetherisError):
    """A value cannot be recorded: it is not JSON, or it is too large."""


class ResultTooLarge(AetherisError):
    """A tool happened, and what it returned is too large to be recorded. The message says its size and its digest."""


class StepFailed(AetherisError):
    """A step or tool raised an error whose class cannot be restored from the record.

    If the class can be restored, the agent gets that class, so `except CardDeclined` works on the first run and on
    every resume alike.
    """

    def __init__(self, message: str, error_type: str = "") -> None:
        super().__init__(message)
        self.error_type = error_type


class Unchanged(AetherisError):
    """Raise it, or a subclass, in a tool that failed and changed nothing.

    Any other error leaves the effect in doubt: after a time-out the card may be charged or not.
    """


class RetryAfter(Unchanged):
    """The called service is busy and says when to try again: `RetryAfter("30s")`.

    It sets the pause before the next attempt; the retry policy decides whether there is one. Raised in a tool, it also
    says that nothing was changed, as a refusal with a Retry-After header does.
    """

    def __init__(self, span: str | float | timedelta, message: str = "") -> None:
        super().__init__(message or f"busy; to be tried again after {span}")
        self.retry_after = span


class Permanent(AetherisError):
    """No later attempt would succeed: the error is never retried, even if the retry policy allows it.

    In a tool it does not say whether something was changed. If nothing was, raise a class that is `Unchanged` too.
    """


class EffectSpent(AetherisError):
    """The effect under this business key was compensated or abandoned, so the key cannot be used again."""


class EffectKeyReused(AetherisError):
    """The effect under this business key was made with other arguments; the message names both by their digests."""


class EffectBlocked(AetherisError):
    """This fork must not make this effect; the message says why."""


class EffectAbandoned(AetherisError):
    """A person abandoned the effect in doubt: it stays unknown whether it happened."""


class WaitTimedOut(AetherisError, TimeoutError):
    """The signal, message or token did not come in time."""


class ThreadsHeld(AetherisError):
    """Too many plain functions of this job took longer than their time limit and hold a thread each. The step or tool
    was not entered."""


class DeadlineExceeded(AetherisError, TimeoutError):
    """The code under a `deadline()` was not done in time."""
