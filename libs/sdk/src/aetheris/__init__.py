"""Write agents that survive crashes, and talk to the suite that runs them."""

from aetheris.context import gather, now, random, signal, sleep, uuid
from aetheris.definitions import agent, step, tool
from aetheris.errors import (
    AetherisError,
    ContractViolation,
    EffectAbandoned,
    StepFailed,
    Unchanged,
    ValueRefused,
    WaitTimedOut,
)
from aetheris.outcomes import DidNotHappen, Effect, Happened, Unknown, current_effect

__all__ = [
    "AetherisError",
    "ContractViolation",
    "DidNotHappen",
    "Effect",
    "EffectAbandoned",
    "Happened",
    "StepFailed",
    "Unchanged",
    "Unknown",
    "ValueRefused",
    "WaitTimedOut",
    "agent",
    "current_effect",
    "gather",
    "now",
    "random",
    "signal",
    "sleep",
    "step",
    "tool",
    "uuid",
]
