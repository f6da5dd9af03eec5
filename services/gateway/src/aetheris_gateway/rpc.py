"""The gRPC servicers: five lines each, to the desk and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.gateway.v1 import gateway_pb2_grpc, signals_pb2_grpc
from aetheris_proto.gateway.v1 import signals_pb2 as signals_pb

from aetheris_gateway.desk import Desk
from aetheris_gateway.identity import Caller

Context = grpc.aio.ServicerContext[Any, Any]

SERVICES = ("aetheris.gateway.v1.Gateway", "aetheris.gateway.v1.Signals")


def add_to(server: grpc.aio.Server, desk: Desk) -> None:
    gateway_pb2_grpc.add_GatewayServicer_to_server(Gateway(desk), server)
    signals_pb2_grpc.add_SignalsServicer_to_server(Signals(desk), server)


def _credentials(context: Context) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


class Gateway(gateway_pb2_grpc.GatewayServicer):
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def _caller(self, context: Context) -> Caller:
        return self._desk.identity.caller(_credentials(context))

    async def Submit(self, request: pb.SubmitRequest, context: Context) -> pb.SubmitResponse:
        traceparent = _credentials(context).get("traceparent", "")
        return await self._desk.jobs.submit(self._caller(context), request, traceparent=traceparent)

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        return await self._desk.jobs.get(self._caller(context), request)

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        return await self._desk.jobs.list(self._caller(context), request)

    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.CancelJobResponse:
        return await self._desk.jobs.cancel(self._caller(context), request)

    async def PauseJob(self, request: pb.PauseJobRequest, context: Context) -> pb.PauseJobResponse:
        return await self._desk.jobs.pause(self._caller(context), request)

    async def ResumeJob(self, request: pb.ResumeJobRequest, context: Context) -> pb.ResumeJobResponse:
        return await self._desk.jobs.resume(self._caller(context), request)

    async def ReadEvents(self, request: pb.ReadEventsRequest, context: Context) -> pb.ReadEventsResponse:
        return await self._desk.record.read_events(self._caller(context), request)

    async def WatchEvents(
        self, request: pb.WatchEventsRequest, context: Context
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        async for response in await self._desk.record.watch_events(self._caller(context), request):
            if response is not None:
                yield response

    async def GetTrace(self, request: pb.GetTraceRequest, context: Context) -> pb.GetTraceResponse:
        return await self._desk.record.get_trace(self._caller(context), request)

    async def VerifyJob(self, request: pb.VerifyJobRequest, context: Context) -> pb.VerifyJobResponse:
        return await self._desk.record.verify(self._caller(context), request)

    async def ListEffects(self, request: pb.ListEffectsRequest, context: Context) -> pb.ListEffectsResponse:
        return await self._desk.effects.list(self._caller(context), request)

    async def Signal(self, request: pb.SignalRequest, context: Context) -> pb.SignalResponse:
        return await self._desk.inbox.signal(self._caller(context), request)

    async def SendMessage(self, request: pb.SendMessageRequest, context: Context) -> pb.SendMessageResponse:
        return await self._desk.inbox.send_message(self._caller(context), request)

    async def GetApproval(self, request: pb.GetApprovalRequest, context: Context) -> pb.GetApprovalResponse:
        return await self._desk.approvals.get(self._caller(context), request)

    async def ListApprovals(self, request: pb.ListApprovalsRequest, context: Context) -> pb.ListApprovalsResponse:
        return await self._desk.approvals.list(self._caller(context), request)

    async def Decide(self, request: pb.DecideRequest, context: Context) -> pb.DecideResponse:
        return await self._desk.approvals.decide(self._caller(context), request)

    async def CompleteToken(self, request: pb.CompleteTokenRequest, context: Context) -> pb.CompleteTokenResponse:
        return await self._desk.tokens.complete(request)

    async def ResolveEffect(self, request: pb.ResolveEffectRequest, context: Context) -> pb.ResolveEffectResponse:
        return await self._desk.effects.resolve(self._caller(context), request)

    async def RequeueJob(self, request: pb.RequeueJobRequest, context: Context) -> pb.RequeueJobResponse:
        return await self._desk.jobs.requeue(self._caller(context), request)

    async def ForkJob(self, request: pb.ForkJobRequest, context: Context) -> pb.ForkJobResponse:
        traceparent = _credentials(context).get("traceparent", "")
        return await self._desk.fork(self._caller(context), request, traceparent=traceparent)

    async def ListStuck(self, request: pb.ListStuckRequest, context: Context) -> pb.ListStuckResponse:
        return await self._desk.jobs.stuck(self._caller(context), request)

    async def ListRunners(self, request: pb.ListRunnersRequest, context: Context) -> pb.ListRunnersResponse:
        return await self._desk.jobs.runners(request)


class Signals(signals_pb2_grpc.SignalsServicer):
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def Fetch(self, request: signals_pb.FetchRequest, context: Context) -> signals_pb.FetchResponse:
        return await self._desk.inbox.fetch(request)

    async def Settle(self, request: signals_pb.SettleRequest, context: Context) -> signals_pb.SettleResponse:
        return await self._desk.inbox.settle(request)

    async def OpenApproval(
        self, request: signals_pb.OpenApprovalRequest, context: Context
    ) -> signals_pb.OpenApprovalResponse:
        return await self._desk.approvals.open(request)

    async def CloseApproval(
        self, request: signals_pb.CloseApprovalRequest, context: Context
    ) -> signals_pb.CloseApprovalResponse:
        return await self._desk.approvals.close(request)

    async def MintToken(self, request: signals_pb.MintTokenRequest, context: Context) -> signals_pb.MintTokenResponse:
        return await self._desk.tokens.mint(request)
