"""Write agents that survive crashes, and talk to the suite that runs them."""

from typing import TYPE_CHECKING, Any

from aetheris.approvals import ApprovalExpired, ApprovalRejected, Verdict, approval
from aetheris.awakeables import Awakeable, AwakeableFailed, awakeable
from aetheris.branches import BranchCancelled, StartedBranch, branches
from aetheris.child import Child, ChildCancelled, ChildFailed, spawn
from aetheris.context import changed, checkpoint, compensate, gather, now, random, receive, signal, sleep, uuid
from aetheris.definitions import agent, step, tool
from aetheris.errors import (
    AetherisError,
    ContractViolation,
    DeadlineExceeded,
    EffectAbandoned,
    EffectBlocked,
    EffectKeyReused,
    EffectSpent,
    Permanent,
    ResultTooLarge,
    RetryAfter,
    StepFailed,
    Unchanged,
    ValueRefused,
    WaitTimedOut,
)
from aetheris.mapping import MapFailed, map  # noqa: A004 - what it is called everywhere
from aetheris.outcomes import DidNotHappen, Effect, Happened, Unknown, current_effect
from aetheris.progress import heartbeat
from aetheris.racing import deadline, race
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
    "BranchCancelled",
    "Child",
    "ChildCancelled",
    "ChildFailed",
    "Client",
    "ContractViolation",
    "DeadlineExceeded",
    "DidNotHappen",
    "Effect",
    "EffectAbandoned",
    "EffectBlocked",
    "EffectKeyReused",
    "EffectSpent",
    "Happened",
    "MapFailed",
    "Permanent",
    "ResultTooLarge",
    "Retry",
    "RetryAfter",
    "StartedBranch",
    "StepFailed",
    "Unchanged",
    "Unknown",
    "ValueRefused",
    "Verdict",
    "WaitTimedOut",
    "agent",
    "approval",
    "awakeable",
    "branches",
    "changed",
    "checkpoint",
    "compensate",
    "current_effect",
    "deadline",
    "gather",
    "heartbeat",
    "map",
    "now",
    "race",
    "random",
    "receive",
    "signal",
    "sleep",
    "spawn",
    "step",
    "tool",
    "uuid",
]


def __getattr__(name: str) -> Any:
    # Imported only when it is used: agents need no HTTP client, and a runner starts faster without one.
    if name in ("AsyncClient", "Client"):
        from aetheris import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
