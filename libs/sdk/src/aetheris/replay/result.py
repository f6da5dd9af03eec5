"""What a replay found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, Self

from aetheris.contract.frames import Place


class ReplayOutcome(Enum):
    # The whole record, to its end.
    SAME = "same"
    # All there is of a record that has no end yet, or that was cut off by a cancellation.
    OPEN = "open"
    DIVERGED = "diverged"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first place where the record and the code part."""

    # Where in the program; "end" for what became of the job.
    path: str
    recorded: str
    actual: str
    # The agent's line that gave the command.
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Frontier:
    """Where a branch stands when the record has no more for it."""

    path: str
    # What it would do next, or what it waits for.
    next: str
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class ReplayResult:
    outcome: ReplayOutcome
    job_id: str
    agent: str
    # How many commands the record answered.
    commands: int
    # How the record ends: completed, failed, cancelled, or "" where it does not.
    ended: str = ""
    mismatch: Mismatch | None = None
    frontier: tuple[Frontier, ...] = field(default=())

    def told(self) -> dict[str, Any]:
        """As JSON."""
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
    """Where and what, both sides, line by line."""
    yield f"at:       {mismatch.path}"
    yield f"record:   {mismatch.recorded}"
    yield f"code now: {mismatch.actual}"
    if mismatch.place is not None:
        yield f"line:     {mismatch.place}"
        if mismatch.place.text:
            yield f"            {mismatch.place.text}"
