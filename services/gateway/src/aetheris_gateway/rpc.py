"""The gRPC servicers: each method calls one method of a service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from aetheris_kernel.errors import Unavailable
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.gateway.v1 import gateway_pb2_grpc, signals_pb2_grpc
from aetheris_proto.gateway.v1 import signals_pb2 as signals_pb

from aetheris_gateway import convert
from aetheris_gateway.identity import Caller, Credentials
from aetheris_gateway.service import GatewayServices

Context = grpc.aio.ServicerContext[Any, Any]

PUBLIC = ("aetheris.gateway.v1.Gateway",)
SIGNALS = ("aetheris.gateway.v1.Signals",)


def add_public(server: grpc.aio.Server, services: GatewayServices) -> None:
    """The public API, for everyone who reaches its port."""
    gateway_pb2_grpc.add_GatewayServicer_to_server(GatewayServicer(services), server)
    server.add_generic_rpc_handlers((_SignalsElsewhere(),))


def add_signals(server: grpc.aio.Server, services: GatewayServices) -> None:
    """The runners' own service, on a port that runners alone reach: it reads and settles the inbox of any job."""
    signals_pb2_grpc.add_SignalsServicer_to_server(SignalsServicer(services), server)


class _SignalsElsewhere(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Answers a runner that calls the public port, one of an earlier version or one with a wrong setting. To it the
    gateway is away, so it waits and fails no job."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if not handler_call_details.method.startswith(f"/{SIGNALS[0]}/"):
            return None
        return grpc.unary_unary_rpc_method_handler(self._refuse)

    async def _refuse(self, request: bytes, context: Context) -> bytes:
        raise Unavailable("runners reach the gateway at its port for signals: see AETHERIS_GATEWAY_ADDRESS")


def _credentials(context: Context) -> Credentials:
    return [(key, value) for key, value in context.invocation_metadata() or () if isinstance(value, str)]


def _traceparent(context: Context) -> str:
    return dict(_credentials(context)).get("traceparent", "")


class GatewayServicer(gateway_pb2_grpc.GatewayServicer):
    def __init__(self, services: GatewayServices) -> None:
        self._services = services

    def _caller(self, context: Context) -> Caller:
        return self._services.identity.caller(_credentials(context))

    async def Submit(self, request: pb.SubmitRequest, context: Context) -> pb.SubmitResponse:
        caller = self._caller(context)
        return await self._services.jobs.submit(caller, convert.new_job(request), traceparent=_traceparent(context))

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        return await self._services.jobs.get(self._caller(context), request)

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        return await self._services.jobs.list(self._caller(context), request)

    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.CancelJobResponse:
        return await self._services.jobs.cancel(self._caller(context), request)

    async def TerminateJob(self, request: pb.TerminateJobRequest, context: Context) -> pb.TerminateJobResponse:
        return await self._services.jobs.terminate(self._caller(context), request)

    async def PauseJob(self, request: pb.PauseJobRequest, context: Context) -> pb.PauseJobResponse:
        return await self._services.jobs.pause(self._caller(context), request)

    async def ResumeJob(self, request: pb.ResumeJobRequest, context: Context) -> pb.ResumeJobResponse:
        return await self._services.jobs.resume(self._caller(context), request)

    async def ReadEvents(self, request: pb.ReadEventsRequest, context: Context) -> pb.ReadEventsResponse:
        return await self._services.record.read_events(self._caller(context), request)

    async def WatchEvents(
        self, request: pb.WatchEventsRequest, context: Context
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        caller = self._caller(context)
        with self._services.waits.waiting(caller, stream=True):
            async for response in await self._services.record.watch_events(caller, request):
                if response is not None:
                    yield response

    async def GetTrace(self, request: pb.GetTraceRequest, context: Context) -> pb.GetTraceResponse:
        return await self._services.record.get_trace(self._caller(context), request)

    async def VerifyJob(self, request: pb.VerifyJobRequest, context: Context) -> pb.VerifyJobResponse:
        return await self._services.record.verify(self._caller(context), request)

    async def ListEffects(self, request: pb.ListEffectsRequest, context: Context) -> pb.ListEffectsResponse:
        return await self._services.effects.list(self._caller(context), request)

    async def Signal(self, request: pb.SignalRequest, context: Context) -> pb.SignalResponse:
        accepted = await self._services.inbox.signal(self._caller(context), convert.new_signal(request))
        return pb.SignalResponse(signal_id=str(accepted.entry_id), created=accepted.created)

    async def SendMessage(self, request: pb.SendMessageRequest, context: Context) -> pb.SendMessageResponse:
        accepted = await self._services.inbox.send_message(self._caller(context), convert.new_message(request))
        return pb.SendMessageResponse(created=accepted.created)

    async def GetApproval(self, request: pb.GetApprovalRequest, context: Context) -> pb.GetApprovalResponse:
        return await self._services.approvals.get(self._caller(context), request)

    async def ListApprovals(self, request: pb.ListApprovalsRequest, context: Context) -> pb.ListApprovalsResponse:
        return await self._services.approvals.list(self._caller(context), request)

    async def Decide(self, request: pb.DecideRequest, context: Context) -> pb.DecideResponse:
        return await self._services.approvals.decide(self._caller(context), convert.new_decision(request))

    async def CompleteToken(self, request: pb.CompleteTokenRequest, context: Context) -> pb.CompleteTokenResponse:
        job_id, created = await self._services.tokens.complete(convert.new_token_content(request))
        return pb.CompleteTokenResponse(job_id=str(job_id), created=created)

    async def ResolveEffect(self, request: pb.ResolveEffectRequest, context: Context) -> pb.ResolveEffectResponse:
        return await self._services.effects.resolve(self._caller(context), convert.new_resolution(request))

    async def RequeueJob(self, request: pb.RequeueJobRequest, context: Context) -> pb.RequeueJobResponse:
        return await self._services.jobs.requeue(self._caller(context), request)

    async def ForkJob(self, request: pb.ForkJobRequest, context: Context) -> pb.ForkJobResponse:
        caller = self._caller(context)
        return await self._services.forks.fork(caller, convert.new_fork(request), traceparent=_traceparent(context))

    async def RetryJob(self, request: pb.RetryJobRequest, context: Context) -> pb.RetryJobResponse:
        caller = self._caller(context)
        return await self._services.forks.retry(caller, request.job_id, traceparent=_traceparent(context))

    async def ListDeployments(self, request: pb.ListDeploymentsRequest, context: Context) -> pb.ListDeploymentsResponse:
        return await self._services.jobs.deployments(self._caller(context), request)

    async def ListStuck(self, request: pb.ListStuckRequest, context: Context) -> pb.ListStuckResponse:
        return await self._services.jobs.stuck(self._caller(context), request)

    async def ListRunners(self, request: pb.ListRunnersRequest, context: Context) -> pb.ListRunnersResponse:
        return await self._services.jobs.runners(request)


class SignalsServicer(signals_pb2_grpc.SignalsServicer):
    def __init__(self, services: GatewayServices) -> None:
        self._services = services

    async def Fetch(self, request: signals_pb.FetchRequest, context: Context) -> signals_pb.FetchResponse:
        return await self._services.inbox.fetch(request)

    async def Settle(self, request: signals_pb.SettleRequest, context: Context) -> signals_pb.SettleResponse:
        return await self._services.inbox.settle(request)

    async def OpenApproval(
        self, request: signals_pb.OpenApprovalRequest, context: Context
    ) -> signals_pb.OpenApprovalResponse:
        return await self._services.approvals.open(request)

    async def CloseApproval(
        self, request: signals_pb.CloseApprovalRequest, context: Context
    ) -> signals_pb.CloseApprovalResponse:
        return await self._services.approvals.close(request)

    async def MintToken(self, request: signals_pb.MintTokenRequest, context: Context) -> signals_pb.MintTokenResponse:
        return await self._services.tokens.mint(request)
