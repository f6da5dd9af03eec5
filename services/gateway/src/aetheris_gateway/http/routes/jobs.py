"""Routes of jobs: submit, list, show, stop, pause, resume."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from aetheris_journal.codec import to_timestamp
from aetheris_kernel.errors import Invalid
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from fastapi import APIRouter, Query, Request
from google.protobuf.duration_pb2 import Duration
from pydantic import Field

from aetheris_gateway.core import intake
from aetheris_gateway.http import body, models, views
from aetheris_gateway.http.render import JsonResponse
from aetheris_gateway.service import GatewayServices
from aetheris_gateway.states import state_of


class Submission(body.Body):
    content: str | None = Field(None, description="What the agent shall do.")
    message: str | None = Field(None, description="The same as content.")
    input: dict[str, Any] | None = Field(
        None, description='For agents that are called like functions: {"args": […], "kwargs": {…}}.'
    )
    idempotency_key: str | None = Field(
        None,
        max_length=256,
        description="A second request with this key is the same job. Or the header Idempotency-Key.",
    )
    queue: str = Field("", max_length=128)
    priority: int = Field(0, ge=-100, le=100, description="Higher first.")
    deadline: str = Field("", max_length=64, description="When it must have ended, ISO 8601 with a time zone.")


class Stop(body.Body):
    reason: str = Field("", max_length=1024)


class ForkBody(body.Body):
    at_seq: int = Field(0, ge=0, le=2**63 - 1, description="The last commit that is copied; 0 means all of them.")
    before_path: str = Field(
        "", max_length=256, description="Instead: the step from which the fork goes its own way, e.g. 3 or 2.1.0."
    )
    effects: str = Field(
        "",
        max_length=16,
        description="Where the fork would make an effect that the abandoned rest has made: reuse its result (the "
        "default), ask a person, or block it.",
    )
    idempotency_key: str = Field("", max_length=256, description="A second request with this key is the same job.")


class Nothing(body.Body):
    pass


def router(services: GatewayServices) -> APIRouter:
    routes = APIRouter(tags=["jobs"])

    @routes.post(
        "/api/agents/{agent_id}/message",
        status_code=202,
        response_model=models.AcceptedJob,
        openapi_extra=body.accepts(Submission),
        summary="Submit a job",
    )
    async def submit(agent_id: str, request: Request) -> JsonResponse:
        """Durable when this answers. With an idempotency key, a repetition answers with the first job."""
        sent = await body.read(request, Submission)
        wanted = _submission(agent_id, sent, request.headers.get("idempotency-key"))
        traceparent = request.headers.get("traceparent", "")
        response = await services.jobs.submit(
            services.identity.caller(request.headers), wanted, traceparent=traceparent
        )
        return JsonResponse(views.accepted(response), 202)

    @routes.get("/api/jobs", response_model=models.JobPage, summary="List jobs, newest first")
    async def jobs(
        request: Request,
        status: Annotated[list[str], Query(max_length=6, description="Only these; may be repeated.")] = [],  # noqa: B006
        agent: Annotated[str, Query(max_length=128)] = "",
        queue: Annotated[str, Query(max_length=128)] = "",
        parent: Annotated[str, Query(max_length=64, description="Only children of this job.")] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str, Query(max_length=1024)] = "",
    ) -> JsonResponse:
        states = [state_of(each) for each in status]
        wanted = pb.ListJobsRequest(states=states, agent=agent, page_size=limit, page_token=cursor)
        wanted.queue, wanted.parent_job_id = queue, parent
        page = await services.jobs.list(services.identity.caller(request.headers), wanted)
        return JsonResponse(views.job_page(page))

    @routes.get("/api/jobs/{job_id}", response_model=models.Job, summary="Show a job")
    async def job(
        request: Request,
        job_id: str,
        wait: Annotated[float, Query(ge=0, le=60, allow_inf_nan=False, description="Seconds to wait for its end.")] = 0,
    ) -> JsonResponse:
        patience = Duration(seconds=int(wait), nanos=int(wait % 1 * 1e9))
        response = await services.jobs.get(
            services.identity.caller(request.headers), pb.GetJobRequest(job_id=job_id, wait=patience)
        )
        return JsonResponse(views.job(response.job))

    @routes.post(
        "/api/jobs/{job_id}/stop",
        response_model=models.Job,
        openapi_extra=body.accepts(Stop, required=False),
        summary="Cancel a job",
    )
    async def stop(job_id: str, request: Request) -> JsonResponse:
        """Its runner ends it: compensations run first. Until then it shows cancel_requested."""
        sent = await body.read(request, Stop, bytes_max=body.NOTE_BYTES_MAX, optional=True)
        order = pb.CancelJobRequest(job_id=job_id, reason=intake.prose(sent.reason, "reason"))
        return JsonResponse(
            views.job((await services.jobs.cancel(services.identity.caller(request.headers), order)).job)
        )

    @routes.post("/api/jobs/{job_id}/pause", response_model=models.Job, summary="Keep a job from going on")
    async def pause(job_id: str, request: Request) -> JsonResponse:
        await body.read(request, Nothing, bytes_max=body.NOTE_BYTES_MAX, optional=True)
        order = pb.PauseJobRequest(job_id=job_id)
        return JsonResponse(
            views.job((await services.jobs.pause(services.identity.caller(request.headers), order)).job)
        )

    @routes.post("/api/jobs/{job_id}/resume", response_model=models.Job, summary="Let a paused job go on")
    async def resume(job_id: str, request: Request) -> JsonResponse:
        await body.read(request, Nothing, bytes_max=body.NOTE_BYTES_MAX, optional=True)
        order = pb.ResumeJobRequest(job_id=job_id)
        return JsonResponse(
            views.job((await services.jobs.resume(services.identity.caller(request.headers), order)).job)
        )

    @routes.post(
        "/api/jobs/{job_id}/requeue", response_model=models.Job, summary="Let a job go on that needs an operator"
    )
    async def requeue(job_id: str, request: Request) -> JsonResponse:
        """For one that is parked: poisoned, in doubt, or at odds with its record. Its crashes are forgotten."""
        await body.read(request, Nothing, bytes_max=body.NOTE_BYTES_MAX, optional=True)
        order = pb.RequeueJobRequest(job_id=job_id)
        return JsonResponse(
            views.job((await services.jobs.requeue(services.identity.caller(request.headers), order)).job)
        )

    @routes.post(
        "/api/jobs/{job_id}/fork",
        status_code=202,
        response_model=models.AcceptedJob,
        openapi_extra=body.accepts(ForkBody, required=False),
        summary="Begin a job with another's history",
    )
    async def fork(job_id: str, request: Request) -> JsonResponse:
        """Effects of the copied history are not made again. Without a place, all of the history is copied."""
        sent = await body.read(request, ForkBody, bytes_max=body.NOTE_BYTES_MAX, optional=True)
        wanted = pb.ForkJobRequest(
            job_id=job_id,
            at_seq=sent.at_seq,
            before_path=intake.key(sent.before_path, "before_path", required=False),
            effects=intake.prose(sent.effects, "effects"),
            idempotency_key=intake.key(sent.idempotency_key, "idempotency_key", required=False),
        )
        traceparent = request.headers.get("traceparent", "")
        response = await services.fork(services.identity.caller(request.headers), wanted, traceparent=traceparent)
        return JsonResponse(views.accepted(response), 202)

    return routes


def _submission(agent: str, sent: Submission, header: str | None) -> pb.SubmitRequest:
    given = {name: getattr(sent, name) for name in ("content", "message", "input")}
    said = [name for name, value in given.items() if value is not None]
    if len(said) > 1:
        raise Invalid(f"{' and '.join(said)} say the same; send one of them", field=said[1])
    if sent.idempotency_key is not None and header is not None and sent.idempotency_key != header:
        raise Invalid("the body and the header Idempotency-Key differ", field="idempotency_key")
    wanted = pb.SubmitRequest(
        agent=intake.name(agent, "agent"),
        idempotency_key=intake.key(sent.idempotency_key or header or "", "idempotency_key", required=False),
        queue=sent.queue,
        priority=sent.priority,
    )
    if sent.input is not None:
        wanted.input = intake.dump(sent.input)
    elif said:
        wanted.message = given[said[0]] or ""
    if sent.deadline:
        wanted.deadline.CopyFrom(to_timestamp(_moment(sent.deadline)))
    return wanted


def _moment(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as fault:
        raise Invalid("the deadline is no ISO 8601 moment, e.g. 2030-01-31T12:00:00Z", field="deadline") from fault
    if at.tzinfo is None:
        raise Invalid("the deadline has no time zone; write e.g. 2030-01-31T12:00:00Z", field="deadline")
    return at
