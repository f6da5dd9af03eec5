"""The host runs the code of steps and tools; the engine decides when, and records the outcome.

The host of a Python agent is the runner's own process. Another host may be a process in another language or a server:
the engine hands it bytes and gets one of the values below. A host is made for one job.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from aetheris_journal.commands import CallTool, RunStep
from aetheris_journal.events import Failure


@dataclass(frozen=True, slots=True)
class Raised:
    """The code raised an error, or returned a value that cannot be recorded."""

    failure: Failure
    # The reason of the doubt that this leaves, in words for people.
    reason: str = ""
    # The tool vouches that nothing has changed outside.
    unchanged: bool = False
    # The error is final: it is never retried.
    final: bool = False
    # The pause that the error itself asks for before the next attempt.
    pause: timedelta | None = None
    # The tool returned, but what it returned cannot be recorded.
    unwritable: bool = False
    cause: BaseException | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ReturnedTooMuch:
    """A tool returned a value that is too large to be recorded. The effect has happened."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class NotEntered:
    """The code was not entered and will not be: its call was withdrawn, or the lease was over before its turn came."""


# The pause after which code that was not entered is tried again, if the run goes on.
NOT_ENTERED_S = 0.25


@dataclass(frozen=True, slots=True)
class EffectHappened:
    """`verify` found that the effect has happened; `result` is the tool's return value."""

    result: bytes


@dataclass(frozen=True, slots=True)
class EffectAbsent:
    """`verify` found that the effect has not happened and will not happen any more."""


@dataclass(frozen=True, slots=True)
class EffectUnclear:
    """`verify` could not find out."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class ToolEntry:
    """One entry into a tool."""

    path: str
    key: str
    lease: int
    attempt: int


class HostedJob(Protocol):
    """The job, as its host sees it."""

    @property
    def job_id(self) -> UUID: ...

    @property
    def lease(self) -> int: ...

    def mine(self, lease: int) -> bool:
        """Whether this runner certainly holds the job under that lease now. May be called from any thread."""

    def say(self, fraction: float | None, note: str) -> None:
        """Report the progress of the running code. May be called from any thread."""

    def returned_late(self, key: str, lease: int, ended: bytes | Raised | ReturnedTooMuch) -> None:
        """Called when code that was left behind after a time-out has ended after all."""


class Host(Protocol):
    async def step(self, command: RunStep, path: str, attempt: int) -> bytes | Raised | NotEntered:
        """Run a step's code once."""

    async def tool(self, command: CallTool, entry: ToolEntry) -> bytes | Raised | ReturnedTooMuch | NotEntered:
        """Enter a tool once."""

    def withdraw(self) -> None:
        """Withdraw the job's calls that wait for their turn. Each of them answers NotEntered."""

    def inside(self, key: str) -> bool:
        """Whether a call under this key is running on this runner, also one of an earlier run, and may still act."""

    async def verify(self, command: CallTool, key: str) -> EffectHappened | EffectAbsent | EffectUnclear:
        """Run the tool's `verify`, which finds out whether the effect has happened."""

    def undoing(self, command: CallTool, result: bytes) -> CallTool | Raised:
        """The call of the compensating tool for `command`, which returned `result`."""


HostFor = Callable[[HostedJob], Host]
