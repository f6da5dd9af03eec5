"""The host runs the code of steps and tools; the engine decides when, and records what came of it.

The host of a Python agent is the runner's own process. Another may be a worker in another language or a server: the
engine sees bytes go in and one of the values below come out. A host is made for one job.
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
    """The code did not return a value that can be recorded."""

    failure: Failure
    # What people read where this leaves a doubt.
    reason: str = ""
    # The world is as it was before the tool was entered.
    unchanged: bool = False
    # No later attempt could do better.
    final: bool = False
    # How long the error itself asks to be left alone.
    pause: timedelta | None = None
    # The tool returned, but what it returned cannot be recorded.
    unwritable: bool = False
    cause: BaseException | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class EffectHappened:
    """The world has the effect; `result` is what the tool would have returned."""

    result: bytes


@dataclass(frozen=True, slots=True)
class EffectAbsent:
    """The world does not have the effect, and will not."""


@dataclass(frozen=True, slots=True)
class EffectUnclear:
    """The world did not say."""

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

    def say(self, fraction: float | None, note: str) -> None:
        """How far the code is, for people. From any thread."""

    def returned_late(self, key: str, lease: int, ended: bytes | Raised) -> None:
        """A call that was given up on has ended after all."""


class Host(Protocol):
    async def step(self, command: RunStep, path: str, attempt: int) -> bytes | Raised:
        """Run a step's code once."""

    async def tool(self, command: CallTool, entry: ToolEntry) -> bytes | Raised:
        """Enter a tool once."""

    def inside(self, key: str) -> bool:
        """Whether a call under this key that was given up on is still running, and may yet act."""

    async def verify(self, command: CallTool, key: str) -> EffectHappened | EffectAbsent | EffectUnclear:
        """Ask the world whether the effect is there."""

    def undoing(self, command: CallTool, result: bytes) -> CallTool | Raised:
        """The call that takes back what `command` did with `result`."""


HostFor = Callable[[HostedJob], Host]
