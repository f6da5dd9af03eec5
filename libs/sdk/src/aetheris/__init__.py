"""Write agents that survive crashes, and talk to the suite that runs them."""

from typing import TYPE_CHECKING, Any

from aetheris.context import compensate, gather, now, random, signal, sleep, uuid
from aetheris.definitions import agent, step, tool
from aetheris.errors import (
    AetherisError,
    ContractViolation,
    EffectAbandoned,
    EffectBlocked,
    Permanent,
    RetryAfter,
    StepFailed,
    Unchanged,
    ValueRefused,
    WaitTimedOut,
)
from aetheris.outcomes import DidNotHappen, Effect, Happened, Unknown, current_effect
from aetheris.progress import heartbeat
from aetheris.retry import Retry

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
    "EffectBlocked",
    "Happened",
    "Permanent",
    "Retry",
    "RetryAfter",
    "StepFailed",
    "Unchanged",
    "Unknown",
    "ValueRefused",
    "WaitTimedOut",
    "agent",
    "compensate",
    "current_effect",
    "gather",
    "heartbeat",
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
