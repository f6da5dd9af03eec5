"""Every REST route and page, with the permission that it needs.

    SIGNAL_JOB = Route("POST", "/api/jobs/{job_id}/signal", Permission.INBOX_SEND)
    SIGNAL_JOB.at(job_id=job.id)        # the client's side: "/api/jobs/0193…/signal"

The gateway registers a handler under such a value and not under a path of its own, so a route without a permission
cannot be written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from aetheris_api.permissions import Permission


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str  # with its parameters in braces, as FastAPI reads it
    permission: Permission

    def at(self, **parameters: str) -> str:
        """The address of one thing, its parameters percent-encoded."""
        return re.sub(r"\{(\w+)(?::\w+)?\}", lambda name: quote(str(parameters[name[1]]), safe=""), self.path)


SUBMIT_JOB = Route("POST", "/api/agents/{agent_id}/message", Permission.JOBS_SUBMIT)
LIST_JOBS = Route("GET", "/api/jobs", Permission.JOBS_READ)
GET_JOB = Route("GET", "/api/jobs/{job_id}", Permission.JOBS_READ)
CANCEL_JOB = Route("POST", "/api/jobs/{job_id}/stop", Permission.JOBS_OPERATE)
TERMINATE_JOB = Route("POST", "/api/jobs/{job_id}/terminate", Permission.JOBS_OPERATE)
PAUSE_JOB = Route("POST", "/api/jobs/{job_id}/pause", Permission.JOBS_OPERATE)
RESUME_JOB = Route("POST", "/api/jobs/{job_id}/resume", Permission.JOBS_OPERATE)
REQUEUE_JOB = Route("POST", "/api/jobs/{job_id}/requeue", Permission.JOBS_OPERATE)
FORK_JOB = Route("POST", "/api/jobs/{job_id}/fork", Permission.JOBS_OPERATE)
RETRY_JOB = Route("POST", "/api/jobs/{job_id}/retry", Permission.JOBS_OPERATE)
LIST_STUCK = Route("GET", "/api/observability/stuck", Permission.JOBS_READ)

SIGNAL_JOB = Route("POST", "/api/jobs/{job_id}/signal", Permission.INBOX_SEND)
SEND_MESSAGE = Route("POST", "/api/jobs/{job_id}/message", Permission.INBOX_SEND)
COMPLETE_TOKEN = Route("POST", "/api/tokens/{token}", Permission.PUBLIC)

LIST_APPROVALS = Route("GET", "/api/approvals", Permission.APPROVALS_READ)
GET_APPROVAL = Route("GET", "/api/approvals/{approval_id}", Permission.APPROVALS_READ)
APPROVE = Route("POST", "/api/approvals/{approval_id}/approve", Permission.APPROVALS_DECIDE)
REJECT = Route("POST", "/api/approvals/{approval_id}/reject", Permission.APPROVALS_DECIDE)
DELEGATE = Route("POST", "/api/approvals/{approval_id}/delegate", Permission.APPROVALS_DECIDE)

LIST_EFFECTS = Route("GET", "/api/effects", Permission.EFFECTS_READ)
# A key may hold any printable character; in the address it is percent-encoded, slashes included.
RESOLVE_EFFECT = Route("POST", "/api/effects/{key:path}/resolve", Permission.EFFECTS_RESOLVE)

READ_EVENTS = Route("GET", "/api/jobs/{job_id}/events", Permission.JOBS_READ)
READ_COMMITS = Route("GET", "/api/jobs/{job_id}/commits", Permission.JOBS_READ)
GET_TRACE = Route("GET", "/api/jobs/{job_id}/trace", Permission.JOBS_READ)
VERIFY_JOB = Route("GET", "/api/jobs/{job_id}/verify", Permission.JOBS_READ)
STREAM_EVENTS = Route("GET", "/api/jobs/{job_id}/stream", Permission.JOBS_READ)

GET_HEALTH = Route("GET", "/api/health", Permission.PUBLIC)
LIST_AGENTS = Route("GET", "/api/agents", Permission.RUNNERS_READ)
LIST_RUNNERS = Route("GET", "/api/runners", Permission.RUNNERS_READ)
LIST_DEPLOYMENTS = Route("GET", "/api/deployments", Permission.RUNNERS_READ)
GET_METRICS = Route("GET", "/metrics", Permission.METRICS_READ)

TRACE_PAGE = Route("GET", "/api/jobs/{job_id}/trace/page", Permission.JOBS_READ)
APPROVALS_PAGE = Route("GET", "/approvals", Permission.APPROVALS_READ)
EFFECTS_PAGE = Route("GET", "/effects", Permission.EFFECTS_READ)
API_PAGE = Route("GET", "/docs", Permission.PUBLIC)
OPENAPI = Route("GET", "/openapi.json", Permission.PUBLIC)

ROUTES = tuple(value for value in list(globals().values()) if isinstance(value, Route))
