"""The answers of a tool's `verify`, and what a tool can read about its own effect."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Happened:
    """The effect has happened; `result` is the tool's return value."""

    result: Any = None


@dataclass(frozen=True, slots=True)
class DidNotHappen:
    """The effect has not happened and will not happen any more: the tool may be called."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """`verify` could not find out. The effect stays in doubt."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Effect:
    """The effect that the running tool is making."""

    key: str  # the same on every attempt
    lease: int  # grows with every lease; the called service can refuse an older one
    attempt: int
    job_id: str

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers for the service that the tool calls: the first to recognise a repeated call, the second to
        refuse a runner that has lost the job."""
        return {"Idempotency-Key": self.key, "Aetheris-Fence": str(self.lease)}


@dataclass(frozen=True, slots=True)
class StepInHand:
    """The step that is running."""

    job_id: str
    path: str
    attempt: int
    lease: int


# Set by the runner around a step's own code.
step_in_hand: ContextVar[StepInHand | None] = ContextVar("aetheris_step", default=None)

# Set by the runner around a tool's own code.
effect_in_hand: ContextVar[Effect | None] = ContextVar("aetheris_effect", default=None)


def current_effect() -> Effect:
    """The effect that the running tool is making. Only inside a tool."""
    effect = effect_in_hand.get()
    if effect is None:
        raise LookupError("current_effect() is for the inside of a tool that an agent called")
    return effect
