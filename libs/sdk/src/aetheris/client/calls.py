"""Every call as a value: what to send and how to read the answer. Both clients send the same calls.

Each call may be sent twice: reading changes nothing, an order such as pause names the state that it wants, and a
submission, a signal and a message carry a key, by which the server recognises the repetition.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from aetheris_api import approvals as approval_shapes
from aetheris_api import effects as effect_shapes
from aetheris_api import inbox as inbox_shapes
from aetheris_api import jobs as job_shapes
from aetheris_api import record as record_shapes
from aetheris_api import routes
from aetheris_api import runners as runner_shapes
from aetheris_api import tokens as token_shapes
from aetheris_api.health import Health
from aetheris_api.routes import Route
from aetheris_api.shape import Body
from aetheris_api.trace import Trace
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from aetheris.errors import ValueRefused

Answer = TypeVar("Answer", bound=BaseModel)

PAGE = 1000


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    method: str
    path: str
    answer: type[Answer]
    params: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    # How long the server may take on purpose, on top of the usual time.
    patience_s: float = 0.0
    # Statuses that are answers here and not errors.
    fine: frozenset[int] = frozenset()


def _get(
    route: Route,
    answer: type[Answer],
    *,
    params: Mapping[str, Any] | None = None,
    patience_s: float = 0.0,
    fine: frozenset[int] = frozenset(),
    **names: str,
) -> Call[Answer]:
    return Call(route.method, route.at(**names), answer, params or {}, None, patience_s, fine)


def _post(
    route: Route,
    answer: type[Answer],
    body: bytes,
    *,
    params: Mapping[str, Any] | None = None,
    patience_s: float = 0.0,
    **names: str,
) -> Call[Answer]:
    return Call(route.method, route.at(**names), answer, params or {}, body, patience_s)


def _body(shape: type[Body], **values: Any) -> bytes:
    """A body with these fields of the shape. The server checks their values, so that a refusal is the same from every
    client; here only their names are checked."""
    assert values.keys() <= shape.model_fields.keys(), (shape, values)
    return _json(values)


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=to_jsonable_python).encode()
    except (TypeError, ValueError, RecursionError, PydanticSerializationError) as error:
        raise ValueRefused(f"this cannot be sent as JSON: {error}") from error


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, "", ())}


class _AsAsked:
    """The arguments are not edited. None would mean the JSON value null."""

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
    start_after: datetime | None,
) -> Call[job_shapes.AcceptedJob]:
    if (message is None) == (input is None):
        raise ValueError('a job gets either a message or an input={"args": […], "kwargs": {…}}')
    content: dict[str, Any] = {"message": message} if input is None else {"input": dict(input)}
    body = _body(
        job_shapes.SubmitBody,
        **content,
        # If the caller has no key, this call gets one of its own, so that it may be sent again.
        idempotency_key=idempotency_key or str(uuid.uuid4()),
        **_given(
            queue=queue,
            priority=priority,
            deadline=deadline and deadline.isoformat(),
            start_after=start_after and start_after.isoformat(),
        ),
    )
    return _post(routes.SUBMIT_JOB, job_shapes.AcceptedJob, body, agent_id=agent)


def get(job_id: str, wait_s: float = 0.0) -> Call[job_shapes.Job]:
    params = _given(wait=wait_s or None)
    return _get(routes.GET_JOB, job_shapes.Job, params=params, patience_s=wait_s, job_id=job_id)


def jobs(
    status: str | Sequence[str], agent: str, queue: str, parent: str, limit: int, cursor: str | None
) -> Call[job_shapes.JobPage]:
    statuses = [status] if isinstance(status, str) and status else list(status)
    params = _given(agent=agent, queue=queue, parent=parent, cursor=cursor) | {"limit": min(limit, PAGE)}
    return _get(routes.LIST_JOBS, job_shapes.JobPage, params=params | ({"status": statuses} if statuses else {}))


def events(job_id: str, after: int) -> Call[record_shapes.EventPage]:
    params = {"after": after, "limit": PAGE}
    return _get(routes.READ_EVENTS, record_shapes.EventPage, params=params, job_id=job_id)


def commits(job_id: str, after: int) -> Call[record_shapes.CommitPage]:
    return _get(routes.READ_COMMITS, record_shapes.CommitPage, params={"after": after}, job_id=job_id)


def trace(job_id: str) -> Call[Trace]:
    return _get(routes.GET_TRACE, Trace, patience_s=20, job_id=job_id)


def verify(job_id: str) -> Call[record_shapes.Verification]:
    return _get(routes.VERIFY_JOB, record_shapes.Verification, patience_s=60, job_id=job_id)


def signal(job_id: str, key: str, payload: Any) -> Call[inbox_shapes.SignalAnswer]:
    body = _body(inbox_shapes.SignalBody, correlation_key=key, payload=payload)
    return _post(routes.SIGNAL_JOB, inbox_shapes.SignalAnswer, body, job_id=job_id)


def message(job_id: str, channel: str, payload: Any, message_id: str | None) -> Call[inbox_shapes.MessageAnswer]:
    name = message_id or str(uuid.uuid4())
    body = _body(inbox_shapes.MessageBody, channel=channel, payload=payload, message_id=name)
    return _post(routes.SEND_MESSAGE, inbox_shapes.MessageAnswer, body, job_id=job_id)


def cancel(job_id: str, reason: str) -> Call[job_shapes.Job]:
    return _post(routes.CANCEL_JOB, job_shapes.Job, _body(job_shapes.CancelBody, reason=reason), job_id=job_id)


def terminate(job_id: str, reason: str) -> Call[job_shapes.Job]:
    return _post(routes.TERMINATE_JOB, job_shapes.Job, _body(job_shapes.TerminateBody, reason=reason), job_id=job_id)


def pause(job_id: str) -> Call[job_shapes.Job]:
    return _post(routes.PAUSE_JOB, job_shapes.Job, _body(job_shapes.EmptyBody), job_id=job_id)


def resume(job_id: str) -> Call[job_shapes.Job]:
    return _post(routes.RESUME_JOB, job_shapes.Job, _body(job_shapes.EmptyBody), job_id=job_id)


def requeue(job_id: str) -> Call[job_shapes.Job]:
    return _post(routes.REQUEUE_JOB, job_shapes.Job, _body(job_shapes.EmptyBody), job_id=job_id)


def fork(
    job_id: str, at_seq: int, before: str, effects: str, idempotency_key: str | None
) -> Call[job_shapes.AcceptedJob]:
    body = _body(
        job_shapes.ForkBody,
        idempotency_key=idempotency_key or str(uuid.uuid4()),
        **_given(at_seq=at_seq or None, before_path=before, effects=effects),
    )
    return _post(routes.FORK_JOB, job_shapes.AcceptedJob, body, patience_s=20, job_id=job_id)


def retry(job_id: str) -> Call[job_shapes.AcceptedJob]:
    return _post(routes.RETRY_JOB, job_shapes.AcceptedJob, _body(job_shapes.EmptyBody), patience_s=20, job_id=job_id)


def approvals(
    state: str | Sequence[str], approver: str, job_id: str, limit: int, cursor: str | None
) -> Call[approval_shapes.ApprovalPage]:
    states = [state] if isinstance(state, str) and state else list(state)
    params = _given(approver=approver, job=job_id, cursor=cursor) | {"limit": min(limit, PAGE)}
    params |= {"state": states} if states else {}
    return _get(routes.LIST_APPROVALS, approval_shapes.ApprovalPage, params=params)


def approval(approval_id: str) -> Call[approval_shapes.Approval]:
    return _get(routes.GET_APPROVAL, approval_shapes.Approval, approval_id=approval_id)


def approve(approval_id: str, comment: str, arguments: Any) -> Call[approval_shapes.Approval]:
    edited = {} if arguments is AS_ASKED else {"arguments": arguments}
    body = _body(approval_shapes.ApproveBody, comment=comment, **edited)
    return _post(routes.APPROVE, approval_shapes.Approval, body, approval_id=approval_id)


def reject(approval_id: str, comment: str) -> Call[approval_shapes.Approval]:
    body = _body(approval_shapes.RejectBody, comment=comment)
    return _post(routes.REJECT, approval_shapes.Approval, body, approval_id=approval_id)


def delegate(approval_id: str, to: str, comment: str) -> Call[approval_shapes.Approval]:
    body = _body(approval_shapes.DelegateBody, to=to, comment=comment)
    return _post(routes.DELEGATE, approval_shapes.Approval, body, approval_id=approval_id)


def complete(token: str, payload: Any, error: str | None) -> Call[token_shapes.TokenAnswer]:
    if error is None:
        return _post(routes.COMPLETE_TOKEN, token_shapes.TokenAnswer, _json(payload), token=token)
    body = _body(token_shapes.FailedBody, error=error)
    return _post(routes.COMPLETE_TOKEN, token_shapes.TokenAnswer, body, params={"failed": "true"}, token=token)


def resolve(key: str, verdict: str, result: Any, note: str) -> Call[effect_shapes.Effect]:
    returned = {"result": result} if verdict == "committed" else {}
    body = _body(effect_shapes.ResolveBody, verdict=verdict, note=note, **returned)
    return _post(routes.RESOLVE_EFFECT, effect_shapes.Effect, body, key=key)


def effects(state: str, job_id: str, limit: int, cursor: str | None) -> Call[effect_shapes.EffectPage]:
    params = _given(state=state, job=job_id, cursor=cursor) | {"limit": min(limit, PAGE)}
    return _get(routes.LIST_EFFECTS, effect_shapes.EffectPage, params=params)


def runners() -> Call[runner_shapes.RunnerPage]:
    return _get(routes.LIST_RUNNERS, runner_shapes.RunnerPage, params={"limit": PAGE})


def deployments(agent: str, limit: int, cursor: str | None) -> Call[runner_shapes.DeploymentPage]:
    params = _given(agent=agent, cursor=cursor) | {"limit": min(limit, PAGE)}
    return _get(routes.LIST_DEPLOYMENTS, runner_shapes.DeploymentPage, params=params)


def agents() -> Call[runner_shapes.AgentList]:
    return _get(routes.LIST_AGENTS, runner_shapes.AgentList)


def stuck() -> Call[job_shapes.StuckPage]:
    return _get(routes.LIST_STUCK, job_shapes.StuckPage, params={"limit": PAGE})


def health() -> Call[Health]:
    return _get(routes.GET_HEALTH, Health, fine=frozenset({503}))


def stream(job_id: str) -> str:
    return routes.STREAM_EVENTS.at(job_id=job_id)
