"""Write agents that survive crashes, and talk to the suite that runs them."""

from typing import TYPE_CHECKING, Any

from aetheris.approvals import ApprovalExpired, ApprovalRejected, Verdict, approval
from aetheris.awakeables import Awakeable, AwakeableFailed, awakeable
from aetheris.context import compensate, gather, now, random, receive, signal, sleep, uuid
from aetheris.definitions import agent, step, tool
from aetheris.errors import (
    AetherisError,
    ContractViolation,
    EffectAbandoned,
    EffectBlocked,
    EffectSpent,
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
    "ApprovalExpired",
    "ApprovalRejected",
    "AsyncClient",
    "Awakeable",
    "AwakeableFailed",
    "Client",
    "ContractViolation",
    "DidNotHappen",
    "Effect",
    "EffectAbandoned",
    "EffectBlocked",
    "EffectSpent",
    "Happened",
    "Permanent",
    "Retry",
    "RetryAfter",
    "StepFailed",
    "Unchanged",
    "Unknown",
    "ValueRefused",
    "Verdict",
    "WaitTimedOut",
    "agent",
    "approval",
    "awakeable",
    "compensate",
    "current_effect",
    "gather",
    "heartbeat",
    "now",
    "random",
    "receive",
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
