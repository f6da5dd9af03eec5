"""What a caller must be allowed to do, and which services may call each other.

Nothing enforces these declarations yet. They are written down with each route and RPC, so that none can be added
without an answer to the question who may use it; `tests/house/test_permissions.py` compares them with what is served.
"""

from __future__ import annotations

from enum import StrEnum


class Permission(StrEnum):
    """What a caller of the public API needs for a route, a page or a gRPC method."""

    # Open to every caller: health, documentation, and tokens, which are a permission themselves.
    PUBLIC = "public"
    JOBS_SUBMIT = "jobs.submit"
    # See jobs, their records, traces and stuck jobs.
    JOBS_READ = "jobs.read"
    # Cancel, terminate, pause, resume, requeue, retry and fork jobs.
    JOBS_OPERATE = "jobs.operate"
    # Send signals and messages to jobs.
    INBOX_SEND = "inbox.send"
    APPROVALS_READ = "approvals.read"
    # Approve, reject and delegate. Which approvals a person may decide is a question of the approval's own approver.
    APPROVALS_DECIDE = "approvals.decide"
    EFFECTS_READ = "effects.read"
    EFFECTS_RESOLVE = "effects.resolve"
    RUNNERS_READ = "runners.read"
    METRICS_READ = "metrics.read"


class PeerKind(StrEnum):
    """Which kind of caller may use an RPC between services."""

    GATEWAY = "gateway"
    RUNNER = "runner"
    # A person, or a tool that a person runs, inside the trusted network.
    OPERATOR = "operator"
