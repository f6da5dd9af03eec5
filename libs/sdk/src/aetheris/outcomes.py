"""What a tool's `verify` answers, and what a tool can know about the effect it is making."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Happened:
    """The effect is in the world; `result` is what the tool would have returned."""

    result: Any = None


@dataclass(frozen=True, slots=True)
class DidNotHappen:
    """The effect is not in the world and will not appear: the tool may be called."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The world did not say. The effect stays in doubt."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Effect:
    """The effect that is being made."""

    key: str  # the same on every attempt
    lease: int  # grows whenever the job changes hands; a downstream can refuse an older one
    attempt: int
    job_id: str

    @property
    def headers(self) -> dict[str, str]:
        """For what the tool calls: deduplicate by the first, refuse a stale caller by the second."""
        return {"Idempotency-Key": self.key, "Aetheris-Fence": str(self.lease)}


@dataclass(frozen=True, slots=True)
class StepInHand:
    """The step that runs."""

    job_id: str
    path: str
    attempt: int
    lease: int


# Set by the runner around a step's own code.
step_in_hand: ContextVar[StepInHand | None] = ContextVar("aetheris_step", default=None)

# Set by the runner around a tool's own code.
effect_in_hand: ContextVar[Effect | None] = ContextVar("aetheris_effect", default=None)


def current_effect() -> Effect:
    """The effect being made, inside a tool."""
    effect = effect_in_hand.get()
    if effect is None:
        raise LookupError("current_effect() is for the inside of a tool that an agent called")
    return effect
