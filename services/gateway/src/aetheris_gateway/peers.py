"""Clients of the scheduler and the ledger: every call has a deadline, and raises refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

import grpc
from aetheris_chassis.client import retrying
from aetheris_chassis.status import refusal_from
from aetheris_kernel.errors import Unavailable
from aetheris_proto.ledger.v1 import ledger_pb2 as ledger_pb
from aetheris_proto.ledger.v1 import ledger_pb2_grpc as ledger_grpc
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb
from aetheris_proto.scheduler.v1 import scheduler_pb2_grpc as scheduler_grpc
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc

CALL_S = 5.0
# A signal waits this long for a scheduler that hangs; then the gateway accepts it without having seen the job.
GLANCE_S = 1.0
WAKE_S = 2.0
VERIFY_S = 60.0
HEALTH_S = 1.0

T = TypeVar("T")


async def _once(call: Awaitable[T], deadline_s: float) -> T:
    """The answer to one try."""
    try:
        async with asyncio.timeout(deadline_s):
            return await call
    except grpc.aio.AioRpcError as error:
        raise refusal_from(error) from error
    except TimeoutError as late:
        raise Unavailable("no answer in time", deadline_s=deadline_s) from late


async def _again(call: Callable[[], Awaitable[T]], deadline_s: float = CALL_S) -> T:
    return await retrying(call, deadline_s=deadline_s)


async def healthy(channel: grpc.aio.Channel) -> bool:
    """Whether the service behind `channel` reports that it serves."""
    request = health_pb2.HealthCheckRequest()
    answer = await _once(health_pb2_grpc.HealthStub(channel).Check(request), HEALTH_S)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


class Scheduler:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._stub = scheduler_grpc.SchedulerStub(channel)

    async def healthy(self) -> bool:
        return await healthy(self._channel)

    async def submit(self, request: scheduler_pb.SubmitRequest) -> scheduler_pb.SubmitResponse:
        """Safe to try again: the gateway chooses the job's id."""
        return await _again(lambda: self._stub.Submit(request))

    async def get(self, job_id: str, *, wait_s: float = 0.0) -> scheduler_pb.Job:
        request = scheduler_pb.GetRequest(job_id=job_id)
        if wait_s > 0:
            request.wait.CopyFrom(Duration(seconds=int(wait_s), nanos=int(wait_s % 1 * 1e9)))
        response: scheduler_pb.GetResponse = await _again(lambda: self._stub.Get(request), CALL_S + wait_s)
        return response.job

    async def glance(self, job_id: str) -> scheduler_pb.Job:
        """The job, if the scheduler answers at once; otherwise Unavailable."""
        request = scheduler_pb.GetRequest(job_id=job_id)
        response: scheduler_pb.GetResponse = await _once(self._stub.Get(request), GLANCE_S)
        return response.job

    async def list(self, request: scheduler_pb.ListRequest) -> scheduler_pb.ListResponse:
        return await _again(lambda: self._stub.List(request))

    async def wake(self, job_id: str) -> scheduler_pb.JobState:
        """One try only: the sweep tries again later."""
        request = scheduler_pb.WakeRequest(job_id=job_id)
        response: scheduler_pb.WakeResponse = await _once(self._stub.Wake(request), WAKE_S)
        return response.state

    async def cancel(self, request: scheduler_pb.CancelRequest) -> scheduler_pb.Job:
        response: scheduler_pb.CancelResponse = await _again(lambda: self._stub.Cancel(request))
        return response.job

    async def terminate(self, request: scheduler_pb.TerminateRequest) -> scheduler_pb.Job:
        response: scheduler_pb.TerminateResponse = await _again(lambda: self._stub.Terminate(request))
        return response.job

    async def pause(self, request: scheduler_pb.PauseRequest) -> scheduler_pb.Job:
        response: scheduler_pb.PauseResponse = await _again(lambda: self._stub.Pause(request))
        return response.job

    async def resume(self, request: scheduler_pb.ResumeRequest) -> scheduler_pb.Job:
        response: scheduler_pb.ResumeResponse = await _again(lambda: self._stub.Resume(request))
        return response.job

    async def requeue(self, request: scheduler_pb.RequeueRequest) -> scheduler_pb.Job:
        response: scheduler_pb.RequeueResponse = await _again(lambda: self._stub.Requeue(request))
        return response.job

    async def stuck(self, request: scheduler_pb.StuckRequest) -> scheduler_pb.StuckResponse:
        return await _again(lambda: self._stub.Stuck(request))

    async def deployments(self, request: scheduler_pb.DeploymentsRequest) -> scheduler_pb.DeploymentsResponse:
        return await _again(lambda: self._stub.Deployments(request))

    async def runners(self, request: scheduler_pb.RunnersRequest) -> scheduler_pb.RunnersResponse:
        return await _again(lambda: self._stub.Runners(request))


class Ledger:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._stub = ledger_grpc.LedgerStub(channel)

    async def healthy(self) -> bool:
        return await healthy(self._channel)

    async def read(self, job_id: str, *, after_seq: int = 0, page_size: int = 0) -> ledger_pb.ReadResponse:
        request = ledger_pb.ReadRequest(job_id=job_id, after_seq=after_seq, page_size=page_size)
        return await _again(lambda: self._stub.Read(request), 2 * CALL_S)

    async def watch(self, job_id: str, after_seq: int) -> AsyncGenerator[ledger_pb.WatchResponse, None]:
        """Commits as they become durable. The call has no deadline; leaving the iteration ends it."""
        call = self._stub.Watch(ledger_pb.WatchRequest(job_id=job_id, after_seq=after_seq))
        try:
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            raise refusal_from(error) from error
        finally:
            call.cancel()

    async def verify(self, job_id: str) -> ledger_pb.VerifyResponse:
        request = ledger_pb.VerifyRequest(job_id=job_id)
        return await _again(lambda: self._stub.Verify(request), VERIFY_S)

    async def list_effects(self, request: ledger_pb.ListEffectsRequest) -> ledger_pb.ListEffectsResponse:
        return await _again(lambda: self._stub.ListEffects(request))

    async def resolve_effect(self, request: ledger_pb.ResolveEffectRequest) -> ledger_pb.ResolveEffectResponse:
        return await _again(lambda: self._stub.ResolveEffect(request))
