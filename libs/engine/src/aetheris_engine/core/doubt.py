"""The ways out of a doubt, the surest first."""

from __future__ import annotations

from dataclasses import dataclass

from aetheris_journal.effect import EffectResolution


@dataclass(frozen=True, slots=True)
class TakeResolution:
    """Take over the resolution that the ledger stored."""

    resolution: EffectResolution


@dataclass(frozen=True, slots=True)
class AskWorld:
    """Call the tool's `verify`."""


@dataclass(frozen=True, slots=True)
class CallAgain:
    """Enter the tool again, under the same key."""


@dataclass(frozen=True, slots=True)
class AskPerson:
    """Park until a person says whether it happened."""


WayOut = TakeResolution | AskWorld | CallAgain | AskPerson


def way_out(
    resolution: EffectResolution | None, *, can_verify: bool, idempotent: bool, attempt: int, attempts_max: int
) -> WayOut:
    """How a doubt may end, the surest first. `attempt` counts the times the tool was entered."""
    if resolution is not None:
        return TakeResolution(resolution)
    if can_verify:
        return AskWorld()
    if idempotent and attempt < attempts_max:
        return CallAgain()
    return AskPerson()
