"""Questions and tokens at the gateway, as a runner asks for them."""

from __future__ import annotations

from datetime import datetime

import grpc
from aetheris_chassis.client import retrying
from aetheris_engine.ports import Assignment, Question
from aetheris_journal.codec import to_timestamp
from aetheris_proto.gateway.v1 import signals_pb2 as pb
from aetheris_proto.gateway.v1 import signals_pb2_grpc as rpc
from google.protobuf.timestamp_pb2 import Timestamp

DESK_DEADLINE_S = 10.0


class GatewayDesk:
    """`ports.Desk` over gRPC. Every call may be made again, so every call is."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = rpc.SignalsStub(channel)

    async def open(self, job: Assignment, question: Question) -> None:
        asked = question.asked
        request = pb.OpenApprovalRequest(
            job_id=str(job.job_id),
            tenant=job.tenant,
            path=question.name,
            approver=asked.approver,
            title=asked.title,
            detail=asked.detail,
            arguments=asked.arguments,
            requester=job.actor,
            requester_may_decide=asked.requester_may_decide,
            quorum=asked.quorum,
            deadline=_moment(question.deadline),
        )
        await retrying(lambda: self._stub.OpenApproval(request, timeout=5), deadline_s=DESK_DEADLINE_S)

    async def close(self, job: Assignment, name: str, reason: str) -> None:
        request = pb.CloseApprovalRequest(job_id=str(job.job_id), tenant=job.tenant, path=name, reason=reason)
        await retrying(lambda: self._stub.CloseApproval(request, timeout=5), deadline_s=DESK_DEADLINE_S)

    async def mint(self, job: Assignment, key: str, deadline: datetime | None) -> str:
        request = pb.MintTokenRequest(job_id=str(job.job_id), tenant=job.tenant, key=key, deadline=_moment(deadline))
        answer = await retrying(lambda: self._stub.MintToken(request, timeout=5), deadline_s=DESK_DEADLINE_S)
        return str(answer.token)


def _moment(at: datetime | None) -> Timestamp | None:
    return None if at is None else to_timestamp(at)
