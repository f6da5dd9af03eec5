"""The gRPC servicer: converts each request, asks the dispatcher or the store, and converts the answer."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Invalid, NotFound, Refusal
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb
from aetheris_proto.scheduler.v1 import scheduler_pb2_grpc as grpc_api

from aetheris_scheduler import convert
from aetheris_scheduler.core.job import Job
from aetheris_scheduler.core.lifecycle import Order, Pause, Requeue, Resume, Wake
from aetheris_scheduler.core.page import deployment_after, moment_after, page_size, runner_after, to_token
from aetheris_scheduler.core.submission import check_batch
from aetheris_scheduler.loops.dispatcher import Dispatcher
from aetheris_scheduler.loops.waiters import Waiters
from aetheris_scheduler.runners.stream import WorkStream
from aetheris_scheduler.store.contract import Store
from aetheris_scheduler.store.tick import Submitted

SERVICE_NAME: str = pb.DESCRIPTOR.services_by_name["Scheduler"].full_name


class SchedulerServicer(grpc_api.SchedulerServicer):
    def __init__(
        self, store: Store, dispatcher: Dispatcher, waiters: Waiters, clock: Clock, *, stuck_after_s: float
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._waiters = waiters
        self._clock = clock
        self._patience = timedelta(seconds=stuck_after_s)

    async def Submit(self, request: pb.SubmitRequest, context: Any) -> pb.SubmitResponse:
        (answer,) = await self._dispatcher.submit([convert.submission(request, self._clock)])
        if isinstance(answer, Refusal):
            raise answer
        return convert.to_submitted(answer)

    async def SubmitBatch(self, request: pb.SubmitBatchRequest, context: Any) -> pb.SubmitBatchResponse:
        check_batch([one.ByteSize() for one in request.requests])
        answers: list[Submitted | Refusal | None] = []
        submissions = []
        for one in request.requests:
            try:
                submissions.append(convert.submission(one, self._clock))
                answers.append(None)
            except Refusal as refusal:
                answers.append(refusal)
        accepted = iter(await self._dispatcher.submit(submissions) if submissions else ())
        return pb.SubmitBatchResponse(
            results=[convert.to_result(next(accepted) if answer is None else answer) for answer in answers]
        )

    async def Work(self, requests: Any, context: Any) -> None:
        await WorkStream(self._dispatcher, self._clock, context).run()

    async def Wake(self, request: pb.WakeRequest, context: Any) -> pb.WakeResponse:
        state = await self._dispatcher.order(convert.known_job_id(request.job_id), Wake())
        return pb.WakeResponse(state=convert.to_state(state))

    async def Cancel(self, request: pb.CancelRequest, context: Any) -> pb.CancelResponse:
        return pb.CancelResponse(job=await self._ordered(request.job_id, convert.cancel(request)))

    async def Terminate(self, request: pb.TerminateRequest, context: Any) -> pb.TerminateResponse:
        return pb.TerminateResponse(job=await self._ordered(request.job_id, convert.terminate(request)))

    async def Pause(self, request: pb.PauseRequest, context: Any) -> pb.PauseResponse:
        return pb.PauseResponse(job=await self._ordered(request.job_id, Pause()))

    async def Resume(self, request: pb.ResumeRequest, context: Any) -> pb.ResumeResponse:
        return pb.ResumeResponse(job=await self._ordered(request.job_id, Resume()))

    async def Requeue(self, request: pb.RequeueRequest, context: Any) -> pb.RequeueResponse:
        return pb.RequeueResponse(job=await self._ordered(request.job_id, Requeue()))

    async def Get(self, request: pb.GetRequest, context: Any) -> pb.GetResponse:
        job_id = convert.known_job_id(request.job_id)
        wait_s = convert.seconds(request.wait, convert.WAIT_MAX_S)
        job = await self._awaited(job_id, wait_s) if wait_s else await self._job(job_id)
        return pb.GetResponse(job=convert.to_job(job))

    async def List(self, request: pb.ListRequest, context: Any) -> pb.ListResponse:
        listing = convert.listing(request)
        jobs = await self._store.list_jobs(listing)
        token = to_token(str(jobs[-1].id)) if len(jobs) == listing.limit else ""
        return pb.ListResponse(jobs=[convert.to_job(job) for job in jobs], next_page_token=token)

    async def ListEnded(self, request: pb.ListEndedRequest, context: Any) -> pb.ListEndedResponse:
        return convert.to_ended(await self._store.ends(convert.ends(request)))

    async def Stuck(self, request: pb.StuckRequest, context: Any) -> pb.StuckResponse:
        if not request.tenant or "\0" in request.tenant:
            raise Invalid("a list is of one tenant", field="tenant")
        size = page_size(request.page_size)
        stuck = await self._store.stuck(request.tenant, moment_after(request.page_token), size, patience=self._patience)
        last = to_token(stuck[-1].since.isoformat(), str(stuck[-1].job.id)) if len(stuck) == size else ""
        return pb.StuckResponse(jobs=[convert.to_stuck(one) for one in stuck], next_page_token=last)

    async def Runners(self, request: pb.RunnersRequest, context: Any) -> pb.RunnersResponse:
        size = page_size(request.page_size)
        runners = await self._store.runners(runner_after(request.page_token), size)
        last = to_token(runners[-1].runner_id, str(runners[-1].session)) if len(runners) == size else ""
        return pb.RunnersResponse(runners=[convert.to_runner(one) for one in runners], next_page_token=last)

    async def Deployments(self, request: pb.DeploymentsRequest, context: Any) -> pb.DeploymentsResponse:
        for text, field in ((request.tenant, "tenant"), (request.agent, "agent")):
            if "\0" in text:
                raise Invalid(f"no {field} is named like that", field=field)
        size, after = page_size(request.page_size), deployment_after(request.page_token)
        found = await self._store.deployments(request.tenant, request.agent, after, size)
        last = to_token(found[-1].agent, found[-1].version) if len(found) == size else ""
        return pb.DeploymentsResponse(deployments=[convert.to_deployment(one) for one in found], next_page_token=last)

    async def Drain(self, request: pb.DrainRequest, context: Any) -> pb.DrainResponse:
        await self._drain(_session_id(request.session_id))
        return pb.DrainResponse()

    async def Handover(self, request: pb.HandoverRequest, context: Any) -> pb.HandoverResponse:
        session = _session_id(request.session_id)
        held = self._dispatcher.connections.name_successor(session, _session_id(request.successor_session_id))
        await self._drain(session)
        return pb.HandoverResponse(held=held)

    async def _drain(self, session: UUID) -> None:
        await self._store.drain(session)
        self._dispatcher.connections.drain(session)

    async def _ordered(self, text: str, order: Order) -> pb.Job:
        job_id = convert.known_job_id(text)
        await self._dispatcher.order(job_id, order)
        return convert.to_job(await self._job(job_id))

    async def _job(self, job_id: UUID) -> Job:
        found = await self._store.get([job_id])
        if job_id not in found:
            raise NotFound("no such job", job_id=job_id)
        return found[job_id]

    async def _awaited(self, job_id: UUID, wait_s: float) -> Job:
        """The job once it has ended, or in its present state when `wait_s` is over."""
        async with self._waiters.waiting(job_id) as ended:
            # A job that a runner of this process holds has not ended, and its end sets the event: no query is needed.
            if not self._dispatcher.connections.hold(job_id):
                job = await self._job(job_id)
                if job.state.ended:
                    return job
            try:
                async with asyncio.timeout(wait_s):
                    await ended.wait()
            except TimeoutError:
                pass
        return await self._job(job_id)


def _session_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("no such session", session_id=text[:64]) from None
