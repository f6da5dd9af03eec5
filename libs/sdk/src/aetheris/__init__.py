"""Write agents that survive crashes, and talk to the suite that runs them."""

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from aetheris.client import AsyncClient, Client

__all__ = [
    "AetherisError",
    "AsyncClient",
    "Client",
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


def __getattr__(name: str) -> Any:
    # An agent has no use for an HTTP client, and a runner starts faster without one.
    if name in ("AsyncClient", "Client"):
        from aetheris import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
