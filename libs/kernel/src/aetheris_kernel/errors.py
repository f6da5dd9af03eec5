"""Refusals: answers for the caller, as opposed to faults, which are errors of the service.

Each kind says what the caller should do next; `aetheris_chassis.status` gives each its gRPC code and
HTTP status. A service refines a kind by subclassing it, and its reason names the rule:
`class JobFinished(Conflict): reason = "JOB_FINISHED"`. Reasons are listed in
`proto/aetheris/common/v1/error_reason.proto`.
"""

from __future__ import annotations

from typing import ClassVar


class Refusal(Exception):
    """A request is refused. Facts are keywords and travel as metadata, not in the message."""

    reason: ClassVar[str] = "UNSPECIFIED"

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts


class Invalid(Refusal):
    """Fix the request."""

    reason = "INVALID"


class Forbidden(Refusal):
    """Stop: the caller may not do this."""

    reason = "FORBIDDEN"


class NotFound(Refusal):
    """Stop: there is no such thing."""

    reason = "NOT_FOUND"


class Conflict(Refusal):
    """Change the state first; the same request will be refused again until then."""

    reason = "CONFLICT"


class Stale(Refusal):
    """Another writer was faster: read again, then decide again."""

    reason = "STALE"


class Exhausted(Refusal):
    """Back off; `retry_after_s` says for how long, where it is known."""

    reason = "EXHAUSTED"


class Unavailable(Refusal):
    """Send the same request again."""

    reason = "UNAVAILABLE"


class ReplicaDraining(Unavailable):
    """This replica stops: send the same request again, and another replica takes it."""

    reason = "DRAINING"


class JobFinished(Conflict):
    """The job has completed, failed or been cancelled."""

    reason = "JOB_FINISHED"


class KeyReused(Conflict):
    """The idempotency key belongs to another request."""

    reason = "KEY_REUSED"


class Fenced(Stale):
    """Another lease wrote to the chain: the caller no longer holds the job."""

    reason = "FENCED"


class ChainBroken(Conflict):
    """The chain does not verify; `seq` names the first bad commit."""

    reason = "CHAIN_BROKEN"


KINDS: tuple[type[Refusal], ...] = (Invalid, Forbidden, NotFound, Conflict, Stale, Exhausted, Unavailable)
