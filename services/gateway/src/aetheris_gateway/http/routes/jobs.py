"""Routes of jobs: submit, list, show, cancel, terminate, pause, resume, requeue, retry, fork."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from aetheris_api import jobs as shapes
from aetheris_api import routes
from aetheris_api.statuses import ForkEffects
from aetheris_kernel.errors import Invalid
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from fastapi import Query, Request
from google.protobuf.duration_pb2 import Duration

from aetheris_gateway.core import intake
from aetheris_gateway.core.requests import NewFork, NewJob
from aetheris_gateway.http import body
from aetheris_gateway.http.render import JsonResponse
from aetheris_gateway.http.routes.endpoint import endpoint
from aetheris_gateway.http.views import jobs as views
from aetheris_gateway.identity import Caller
from aetheris_gateway.service import GatewayServices
from aetheris_gateway.states import state_of


class JobRoutes:
    def __init__(self, services: GatewayServices) -> None:
        self._services = services

    def _caller(self, request: Request) -> Caller:
        return self._services.identity.caller(request.headers)

    @endpoint(
        routes.SUBMIT_JOB,
        status_code=202,
        response_model=shapes.AcceptedJob,
        body=shapes.SubmitBody,
        summary="Submit a job",
    )
    async def submit(self, agent_id: str, request: Request) -> JsonResponse:
        """Durable when this answers. With an idempotency key, a repetition answers with the first job."""
        sent = await body.read(request, shapes.SubmitBody)
        new = new_job(agent_id, sent, request.headers.get("idempotency-key"))
        traceparent = request.headers.get("traceparent", "")
        response = await self._services.jobs.submit(self._caller(request), new, traceparent=traceparent)
        return JsonResponse(views.accepted(response), 202)

    @endpoint(routes.LIST_JOBS, response_model=shapes.JobPage, summary="List jobs, newest first")
    async def jobs(
        self,
        request: Request,
        status: Annotated[list[str], Query(max_length=6, description="Only these; may be repeated.")] = [],  # noqa: B006
        agent: Annotated[str, Query(max_length=128)] = "",
        queue: Annotated[str, Query(max_length=128)] = "",
        parent: Annotated[str, Query(max_length=64, description="Only children of this job.")] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str, Query(max_length=1024)] = "",
    ) -> JsonResponse:
        wanted = pb.ListJobsRequest(
            states=[state_of(each) for each in status],
            agent=agent,
            queue=queue,
            parent_job_id=parent,
            page_size=limit,
            page_token=cursor,
        )
        return JsonResponse(views.job_page(await self._services.jobs.list(self._caller(request), wanted)))

    @endpoint(routes.GET_JOB, response_model=shapes.Job, summary="Show a job")
    async def job(
        self,
        request: Request,
        job_id: str,
        wait: Annotated[float, Query(ge=0, le=60, allow_inf_nan=False, description="Seconds to wait for its end.")] = 0,
    ) -> JsonResponse:
        patience = Duration(seconds=int(wait), nanos=int(wait % 1 * 1e9))
        wanted = pb.GetJobRequest(job_id=job_id, wait=patience)
        return JsonResponse(views.job((await self._services.jobs.get(self._caller(request), wanted)).job))

    @endpoint(
        routes.CANCEL_JOB,
        response_model=shapes.Job,
        body=shapes.CancelBody,
        body_required=False,
        summary="Cancel a job",
    )
    async def stop(self, job_id: str, request: Request) -> JsonResponse:
        """The job's runner ends it: compensations run first. Until then it shows cancel_requested."""
        sent = await body.read(request, shapes.CancelBody, bytes_max=body.CONTENT_BODY_BYTES_MAX, optional=True)
        order = pb.CancelJobRequest(job_id=job_id, reason=sent.reason)
        return JsonResponse(views.job((await self._services.jobs.cancel(self._caller(request), order)).job))

    @endpoint(
        routes.TERMINATE_JOB,
        response_model=shapes.Job,
        body=shapes.TerminateBody,
        body_required=False,
        summary="End a job at once, without compensation",
    )
    async def terminate(self, job_id: str, request: Request) -> JsonResponse:
        """For a job that a cancel does not end: its code is gone, hangs, or cannot compensate. Any runner ends it.
        Effects that have started and have no outcome are in doubt from then on; committed ones stay."""
        sent = await body.read(request, shapes.TerminateBody, bytes_max=body.CONTENT_BODY_BYTES_MAX, optional=True)
        order = pb.TerminateJobRequest(job_id=job_id, reason=sent.reason)
        return JsonResponse(views.job((await self._services.jobs.terminate(self._caller(request), order)).job))

    @endpoint(routes.PAUSE_JOB, response_model=shapes.Job, summary="Keep a job from going on")
    async def pause(self, job_id: str, request: Request) -> JsonResponse:
        await body.read(request, shapes.EmptyBody, bytes_max=body.CONTENT_BODY_BYTES_MAX, optional=True)
        order = pb.PauseJobRequest(job_id=job_id)
        return JsonResponse(views.job((await self._services.jobs.pause(self._caller(request), order)).job))

    @endpoint(routes.RESUME_JOB, response_model=shapes.Job, summary="Let a paused job go on")
    async def resume(self, job_id: str, request: Request) -> JsonResponse:
        await body.read(request, shapes.EmptyBody, bytes_max=body.CONTENT_BODY_BYTES_MAX, optional=True)
        order = pb.ResumeJobRequest(job_id=job_id)
        return JsonResponse(views.job((await self._services.jobs.resume(self._caller(request), order)).job))

    @endpoint(routes.REQUEUE_JOB, response_model=shapes.Job, summary="Let a job go on that needs an operator")
    async def requeue(self, job_id: str, request: Request) -> JsonResponse:
        """For a parked job: poisoned, in doubt, or at odds with its record. Its count of crashes begins at zero."""
        await body.read(request, shapes.EmptyBody, bytes_max=body.CONTENT_BODY_BYTES_MAX, optional=True)
        order = pb.RequeueJobRequest(job_id=job_id)
        return JsonResponse(views.job((await self._services.jobs.requeue(self._caller(request), order)).job))

    @endpoint(
        routes.FORK_JOB,
        status_code=202,
        response_model=shapes.AcceptedJob,
        body=shapes.ForkBody,
        body_required=False,
        summary="Begin a job with another's history",
    )
    async def fork(self, job_id: str, request: Request) -> JsonResponse:
        """Effects of the copied history are not repeated. Without a commit or step, all of the history is copied."""
        sent = await body.read(request, shapes.ForkBody, bytes_max=body.CONTENT_BODY_BYTES_MAX, optional=True)
        new = NewFork(
            job_id=job_id,
            at_seq=sent.at_seq,
            before_path=sent.before_path,
            effects=sent.effects or ForkEffects.REUSE,
            idempotency_key=sent.idempotency_key,
        )
        traceparent = request.headers.get("traceparent", "")
        response = await self._services.forks.fork(self._caller(request), new, traceparent=traceparent)
        return JsonResponse(views.accepted(response), 202)

    @endpoint(
        routes.RETRY_JOB, status_code=202, response_model=shapes.AcceptedJob, summary="Let a parked or failed job go on"
    )
    async def retry(self, job_id: str, request: Request) -> JsonResponse:
        """A job that is parked for an operator goes on under its id. A failed one is forked before the step that
        failed: the answer names the fork, and both jobs name each other. Effects of the history are not repeated."""
        await body.read(request, shapes.EmptyBody, bytes_max=body.CONTENT_BODY_BYTES_MAX, optional=True)
        traceparent = request.headers.get("traceparent", "")
        response = await self._services.forks.retry(self._caller(request), job_id, traceparent=traceparent)
        return JsonResponse(views.accepted(response), 202)


def new_job(agent: str, sent: shapes.SubmitBody, header: str | None) -> NewJob:
    """`header` is the Idempotency-Key, which may stand in the body instead."""
    if sent.idempotency_key is not None and header is not None and sent.idempotency_key != header:
        raise Invalid("the body and the header Idempotency-Key differ", field="idempotency_key")
    return NewJob(
        agent=agent,
        input=_input(sent),
        idempotency_key=sent.idempotency_key or header or "",
        queue=sent.queue or "default",
        priority=sent.priority,
        deadline=_moment(sent.deadline, "deadline") if sent.deadline else None,
        start_after=_moment(sent.start_after, "start_after") if sent.start_after else None,
    )


def _input(sent: shapes.SubmitBody) -> intake.Content:
    given = [name for name in ("content", "message", "input") if getattr(sent, name) is not None]
    if len(given) > 1:
        raise Invalid(f"{' and '.join(given)} say the same; send one of them", field=given[1])
    if sent.input is not None:
        return intake.call_input(sent.input)
    if not given:
        raise Invalid('say what the agent shall do: send {"message": "…"}', field="message")
    return intake.message_input(sent.content or sent.message or "")


def _moment(text: str, field: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as fault:
        raise Invalid(f"the {field} is not an ISO 8601 moment, e.g. 2030-01-31T12:00:00Z", field=field) from fault
    if at.tzinfo is None:
        raise Invalid(f"the {field} has no time zone; write e.g. 2030-01-31T12:00:00Z", field=field)
    return at
