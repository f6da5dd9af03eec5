"""The gRPC servicers: five lines each, to the desk and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.gateway.v1 import gateway_pb2_grpc, signals_pb2_grpc
from aetheris_proto.gateway.v1 import signals_pb2 as signals_pb

from aetheris_gateway.desk import Desk
from aetheris_gateway.identity import Caller, caller_of

Context = grpc.aio.ServicerContext[Any, Any]

SERVICES = ("aetheris.gateway.v1.Gateway", "aetheris.gateway.v1.Signals")


def add_to(server: grpc.aio.Server, desk: Desk) -> None:
    gateway_pb2_grpc.add_GatewayServicer_to_server(Gateway(desk), server)
    signals_pb2_grpc.add_SignalsServicer_to_server(Signals(desk), server)


def _credentials(context: Context) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _caller(context: Context) -> Caller:
    return caller_of(_credentials(context))


class Gateway(gateway_pb2_grpc.GatewayServicer):
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def Submit(self, request: pb.SubmitRequest, context: Context) -> pb.SubmitResponse:
        traceparent = _credentials(context).get("traceparent", "")
        return await self._desk.jobs.submit(_caller(context), request, traceparent=traceparent)

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        return await self._desk.jobs.get(_caller(context), request)

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        return await self._desk.jobs.list(_caller(context), request)

    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.CancelJobResponse:
        return await self._desk.jobs.cancel(_caller(context), request)

    async def PauseJob(self, request: pb.PauseJobRequest, context: Context) -> pb.PauseJobResponse:
        return await self._desk.jobs.pause(_caller(context), request)

    async def ResumeJob(self, request: pb.ResumeJobRequest, context: Context) -> pb.ResumeJobResponse:
        return await self._desk.jobs.resume(_caller(context), request)

    async def ReadEvents(self, request: pb.ReadEventsRequest, context: Context) -> pb.ReadEventsResponse:
        return await self._desk.record.read_events(_caller(context), request)

    async def WatchEvents(
        self, request: pb.WatchEventsRequest, context: Context
    ) -> AsyncIterator[pb.WatchEventsResponse]:
        async for response in await self._desk.record.watch_events(_caller(context), request):
            if response is not None:
                yield response

    async def GetTrace(self, request: pb.GetTraceRequest, context: Context) -> pb.GetTraceResponse:
        return await self._desk.record.get_trace(_caller(context), request)

    async def VerifyJob(self, request: pb.VerifyJobRequest, context: Context) -> pb.VerifyJobResponse:
        return await self._desk.record.verify(_caller(context), request)

    async def ListEffects(self, request: pb.ListEffectsRequest, context: Context) -> pb.ListEffectsResponse:
        return await self._desk.record.list_effects(_caller(context), request)

    async def Signal(self, request: pb.SignalRequest, context: Context) -> pb.SignalResponse:
        return await self._desk.inbox.signal(_caller(context), request)

    async def SendMessage(self, request: pb.SendMessageRequest, context: Context) -> pb.SendMessageResponse:
        return await self._desk.inbox.send_message(_caller(context), request)

    async def _refuse_unserved(self, request: object, context: Context) -> NoReturn:
        # The generated methods raise NotImplementedError, which would be told and logged as a fault of ours.
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this gateway does not serve approvals and verdicts")

    ListApprovals = Decide = ResolveEffect = _refuse_unserved


class Signals(signals_pb2_grpc.SignalsServicer):
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def Fetch(self, request: signals_pb.FetchRequest, context: Context) -> signals_pb.FetchResponse:
        return await self._desk.inbox.fetch(request)

    async def Settle(self, request: signals_pb.SettleRequest, context: Context) -> signals_pb.SettleResponse:
        return await self._desk.inbox.settle(request)
