"""The result of a replay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, Self

from aetheris.contract.frames import Place


class ReplayOutcome(Enum):
    # The code gave the whole record, up to its end.
    SAME = "same"
    # The code gave all that is recorded, but the record has no end yet or was ended by a cancel.
    OPEN = "open"
    DIVERGED = "diverged"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first difference between the record and the code."""

    # The path in the program; "end" if the job's end differs.
    path: str
    recorded: str
    actual: str
    # The line of the agent that gave the command.
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Frontier:
    """The place where a branch rests because the record has no more for it."""

    path: str
    # The command that it would give next, or the wait that it is in.
    next: str
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class ReplayResult:
    outcome: ReplayOutcome
    job_id: str
    agent: str
    # The number of commands that the record answered.
    commands: int
    # How the record ends: completed, failed, cancelled; empty if it has no end.
    ended: str = ""
    mismatch: Mismatch | None = None
    frontier: tuple[Frontier, ...] = field(default=())

    def told(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {**asdict(self), "outcome": self.outcome.value}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        mismatch = told["mismatch"]
        return cls(
            outcome=ReplayOutcome(told["outcome"]),
            job_id=told["job_id"],
            agent=told["agent"],
            commands=told["commands"],
            ended=told["ended"],
            mismatch=None if mismatch is None else Mismatch(**{**mismatch, "place": _place(mismatch["place"])}),
            frontier=tuple(Frontier(**{**each, "place": _place(each["place"])}) for each in told["frontier"]),
        )


def _place(told: Mapping[str, Any] | None) -> Place | None:
    return None if told is None else Place(**told)


def told(mismatch: Mismatch) -> Iterator[str]:
    """The difference in words: its place and both sides, line by line."""
    yield f"at:       {mismatch.path}"
    yield f"record:   {mismatch.recorded}"
    yield f"code now: {mismatch.actual}"
    if mismatch.place is not None:
        yield f"line:     {mismatch.place}"
        if mismatch.place.text:
            yield f"            {mismatch.place.text}"
