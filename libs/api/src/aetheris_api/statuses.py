"""The names of states and kinds, as REST, the pages, the CLI and the gRPC trace spell them.

The shapes declare such fields as text, not as these types: a client must be able to read a name that a newer server
has added.
"""

from __future__ import annotations

from enum import StrEnum


class JobStatus(StrEnum):
    READY = "ready"
    RUNNING = "running"
    PARKED = "parked"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


# A job in one of these has ended and changes no more.
FINISHED = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})


class StepKind(StrEnum):
    """What a line of a trace is about."""

    STEP = "step"
    EFFECT = "effect"
    WAIT = "wait"
    CHILD = "child"
    VALUE = "value"
    CHECKPOINT = "checkpoint"
    PLAN = "plan"


class StepStatus(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    RETRYING = "retrying"
    WAITING = "waiting"
    IN_DOUBT = "in_doubt"
    TIMED_OUT = "timed_out"
    COMPENSATED = "compensated"


class StepOutcome(StrEnum):
    """What a step came to. NONE while it has not ended, or ended in a doubt."""

    NONE = ""
    PURE = "pure"
    SIDE_EFFECT_COMMITTED = "side_effect_committed"
    RETRYABLE = "retryable"
    PERMANENT_FAILURE = "permanent_failure"
    COMPENSATED = "compensated"


class ApprovalState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


class Vote(StrEnum):
    """What one approver did with an approval."""

    YES = "yes"
    NO = "no"
    DELEGATED = "delegated"


class EffectStatus(StrEnum):
    STARTED = "started"
    COMMITTED = "committed"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"
    NOT_EXECUTED = "not_executed"
    ABANDONED = "abandoned"
    COMPENSATED = "compensated"


class ResolutionChoice(StrEnum):
    """What a person can say about an effect in doubt."""

    COMMITTED = "committed"
    NOT_EXECUTED = "not_executed"
    ABANDONED = "abandoned"


class ForkEffects(StrEnum):
    """What a fork does where it would repeat an effect of the history that it left out."""

    REUSE = "reuse"
    ASK = "ask"
    BLOCK = "block"


class HealthStatus(StrEnum):
    OK = "ok"
    DEGRADED = "degraded"
    DRAINING = "draining"
    DOWN = "down"
