"""What an agent's author can meet."""

from __future__ import annotations

from datetime import timedelta


class AetherisError(Exception):
    """Everything this package raises by itself."""


class ContractViolation(AetherisError):
    """The agent's code does what would make its record worthless. The message says what and instead of what."""


class ValueRefused(AetherisError):
    """A value cannot be recorded: it is not JSON, or it is too large."""


class StepFailed(AetherisError):
    """A step or tool raised an error whose class cannot be had back from the record.

    Where the class can be had back, the agent sees that class, so `except CardDeclined` works on the
    first run and on every resume alike.
    """

    def __init__(self, message: str, error_type: str = "") -> None:
        super().__init__(message)
        self.error_type = error_type


class Unchanged(AetherisError):
    """Raise it, or a subclass, in a tool that failed and left the world as it was.

    Any other error leaves the effect in doubt: a time-out may well have charged the card.
    """


class RetryAfter(Unchanged):
    """Whoever was called is busy and says when to come again: `RetryAfter("30s")`.

    It decides the pause before the next attempt; whether there is one is the retry policy's to say. In a
    tool it vouches that the world is unchanged, as a refusal with a Retry-After header does.
    """

    def __init__(self, span: str | float | timedelta, message: str = "") -> None:
        super().__init__(message or f"busy; to be tried again after {span}")
        self.retry_after = span


class Permanent(AetherisError):
    """No later attempt will fare better: never retried, whatever the policy says.

    In a tool it does not say what became of the world; raise a class that is `Unchanged` too if it does.
    """


class EffectSpent(AetherisError):
    """The effect under this business key was made and taken back, or given up on: that key is used up."""


class EffectBlocked(AetherisError):
    """This effect must not be made here, and the message says why."""


class EffectAbandoned(AetherisError):
    """Nobody will ever know whether the effect happened, and somebody decided to go on."""


class WaitTimedOut(AetherisError, TimeoutError):
    """What was waited for did not come in time."""


class DeadlineExceeded(AetherisError, TimeoutError):
    """The block under a `deadline()` was not done in time."""
