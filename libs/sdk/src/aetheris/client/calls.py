"""Every call as a value: what to send and how to read the answer. Both clients send the same calls.

Each of them may be sent twice: reading changes nothing, orders say how things shall be, and a submission,
a signal and a message carry a key that makes the second one the first.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, to_jsonable_python

from aetheris.client import models
from aetheris.errors import ValueRefused

Answer = TypeVar("Answer")

PAGE = 1000


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    method: str
    path: str
    answer: TypeAdapter[Answer]
    params: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    # How long the server may take on purpose, on top of the usual time.
    patience_s: float = 0.0
    # Statuses that are answers here and not errors.
    fine: frozenset[int] = frozenset()


def _body(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=to_jsonable_python).encode()
    except (TypeError, ValueError, RecursionError, PydanticSerializationError) as error:
        raise ValueRefused(f"this cannot be sent as JSON: {error}") from error


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "", ())}


def _job(job_id: str, rest: str = "") -> str:
    return f"/api/jobs/{quote(str(job_id), safe='')}{rest}"


def _approval(approval_id: str, rest: str = "") -> str:
    return f"/api/approvals/{quote(str(approval_id), safe='')}{rest}"


_JOB = TypeAdapter(models.Job)
_APPROVAL = TypeAdapter(models.Approval)


class _AsAsked:
    """No edit; None would be the JSON value null."""

    def __repr__(self) -> str:
        return "as asked"


AS_ASKED: Any = _AsAsked()


def submit(
    agent: str,
    message: str | None,
    input: Mapping[str, Any] | None,  # noqa: A002
    idempotency_key: str | None,
    queue: str,
    priority: int,
    deadline: datetime | None,
) -> Call[models.Job]:
    if (message is None) == (input is None):
        raise ValueError('a job gets either a message or an input={"args": […], "kwargs": {…}}')
    body: dict[str, Any] = {"message": message} if input is None else {"input": dict(input)}
    # Without a key of the caller's own there is one for this call, so that it may be sent again.
    body["idempotency_key"] = idempotency_key or str(uuid.uuid4())
    body |= _given(queue=queue, priority=priority, deadline=deadline and deadline.isoformat())
    return Call("POST", f"/api/agents/{quote(agent, safe='')}/message", _JOB, body=_body(body))


def get(job_id: str, wait_s: float = 0.0) -> Call[models.Job]:
    return Call("GET", _job(job_id), _JOB, params=_given(wait=wait_s or None), patience_s=wait_s)


class JobPage(models.Model):
    jobs: list[models.Job]
    next_cursor: str | None


class EventPage(models.Model):
    events: list[models.Event]
    next_after: int | None


class CommitPage(models.Model):
    commits: list[models.StoredCommit]
    next_after: int | None


class EffectPage(models.Model):
    effects: list[models.Effect]
    next_cursor: str | None


class ApprovalPage(models.Model):
    approvals: list[models.Approval]
    next_cursor: str | None


class RunnerPage(models.Model):
    runners: list[models.Runner]
    next_cursor: str | None


class AgentList(models.Model):
    agents: list[models.Agent]


class StuckPage(models.Model):
    jobs: list[models.StuckJob]


def jobs(
    status: str | Sequence[str], agent: str, queue: str, parent: str, limit: int, cursor: str | None
) -> Call[JobPage]:
    statuses = [status] if isinstance(status, str) and status else list(status)
    params = _given(agent=agent, queue=queue, parent=parent, cursor=cursor) | {"limit": min(limit, PAGE)}
    return Call("GET", "/api/jobs", TypeAdapter(JobPage), params=params | ({"status": statuses} if statuses else {}))


def events(job_id: str, after: int) -> Call[EventPage]:
    return Call("GET", _job(job_id, "/events"), TypeAdapter(EventPage), params={"after": after, "limit": PAGE})


def commits(job_id: str, after: int) -> Call[CommitPage]:
    return Call("GET", _job(job_id, "/commits"), TypeAdapter(CommitPage), params={"after": after})


def trace(job_id: str) -> Call[models.Trace]:
    return Call("GET", _job(job_id, "/trace"), TypeAdapter(models.Trace), patience_s=20)


def verify(job_id: str) -> Call[models.Verdict]:
    return Call("GET", _job(job_id, "/verify"), TypeAdapter(models.Verdict), patience_s=60)


def signal(job_id: str, key: str, payload: Any) -> Call[models.SignalAnswer]:
    body = _body({"correlation_key": key, "payload": payload})
    return Call("POST", _job(job_id, "/signal"), TypeAdapter(models.SignalAnswer), body=body)


def message(job_id: str, channel: str, payload: Any, message_id: str | None) -> Call[models.MessageAnswer]:
    body = _body({"channel": channel, "payload": payload, "message_id": message_id or str(uuid.uuid4())})
    return Call("POST", _job(job_id, "/message"), TypeAdapter(models.MessageAnswer), body=body)


def cancel(job_id: str, reason: str) -> Call[models.Job]:
    return Call("POST", _job(job_id, "/stop"), _JOB, body=_body({"reason": reason}))


def pause(job_id: str) -> Call[models.Job]:
    return Call("POST", _job(job_id, "/pause"), _JOB, body=b"{}")


def resume(job_id: str) -> Call[models.Job]:
    return Call("POST", _job(job_id, "/resume"), _JOB, body=b"{}")


def requeue(job_id: str) -> Call[models.Job]:
    return Call("POST", _job(job_id, "/requeue"), _JOB, body=b"{}")


def fork(job_id: str, at_seq: int, before: str, effects: str, idempotency_key: str | None) -> Call[models.Job]:
    body = _given(at_seq=at_seq or None, before_path=before, effects=effects)
    body["idempotency_key"] = idempotency_key or str(uuid.uuid4())
    return Call("POST", _job(job_id, "/fork"), _JOB, body=_body(body), patience_s=20)


def approvals(
    state: str | Sequence[str], approver: str, job_id: str, limit: int, cursor: str | None
) -> Call[ApprovalPage]:
    states = [state] if isinstance(state, str) and state else list(state)
    params = _given(approver=approver, job=job_id, cursor=cursor) | {"limit": min(limit, PAGE)}
    params |= {"state": states} if states else {}
    return Call("GET", "/api/approvals", TypeAdapter(ApprovalPage), params=params)


def approval(approval_id: str) -> Call[models.Approval]:
    return Call("GET", _approval(approval_id), _APPROVAL)


def approve(approval_id: str, comment: str, arguments: Any) -> Call[models.Approval]:
    body = {"comment": comment} | ({} if arguments is AS_ASKED else {"arguments": arguments})
    return Call("POST", _approval(approval_id, "/approve"), _APPROVAL, body=_body(body))


def reject(approval_id: str, comment: str) -> Call[models.Approval]:
    return Call("POST", _approval(approval_id, "/reject"), _APPROVAL, body=_body({"comment": comment}))


def delegate(approval_id: str, to: str, comment: str) -> Call[models.Approval]:
    return Call("POST", _approval(approval_id, "/delegate"), _APPROVAL, body=_body({"to": to, "comment": comment}))


def complete(token: str, payload: Any, error: str | None) -> Call[models.TokenAnswer]:
    path, answer = f"/api/tokens/{quote(token, safe='')}", TypeAdapter(models.TokenAnswer)
    if error is not None:
        return Call("POST", path, answer, params={"failed": "true"}, body=_body({"error": error}))
    return Call("POST", path, answer, body=_body(payload))


def resolve(key: str, verdict: str, result: Any, note: str) -> Call[models.Effect]:
    body = {"verdict": verdict, "note": note} | ({"result": result} if verdict == "committed" else {})
    path = f"/api/effects/{quote(key, safe='')}/resolve"
    return Call("POST", path, TypeAdapter(models.Effect), body=_body(body))


def effects(state: str, job_id: str, limit: int, cursor: str | None) -> Call[EffectPage]:
    params = _given(state=state, job=job_id, cursor=cursor) | {"limit": min(limit, PAGE)}
    return Call("GET", "/api/effects", TypeAdapter(EffectPage), params=params)


def runners() -> Call[RunnerPage]:
    return Call("GET", "/api/runners", TypeAdapter(RunnerPage), params={"limit": PAGE})


def agents() -> Call[AgentList]:
    return Call("GET", "/api/agents", TypeAdapter(AgentList))


def stuck() -> Call[StuckPage]:
    return Call("GET", "/api/observability/stuck", TypeAdapter(StuckPage), params={"limit": PAGE})


def health() -> Call[models.Health]:
    return Call("GET", "/api/health", TypeAdapter(models.Health), fine=frozenset({503}))


def stream(job_id: str) -> str:
    return _job(job_id, "/stream")
