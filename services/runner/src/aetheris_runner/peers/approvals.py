"""The gateway's approvals and tokens, as a runner calls them."""

from __future__ import annotations

from datetime import datetime

import grpc
from aetheris_chassis.client import retrying
from aetheris_engine.ports import Assignment
from aetheris_journal.codec import to_timestamp
from aetheris_journal.commands import AskApproval
from aetheris_proto.gateway.v1 import signals_pb2 as pb
from aetheris_proto.gateway.v1 import signals_pb2_grpc as rpc
from google.protobuf.timestamp_pb2 import Timestamp

DEADLINE_S = 10.0


class GatewayApprovals:
    """`ports.Approvals` over gRPC. Every call may be repeated, so a failed one is retried."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = rpc.SignalsStub(channel)

    async def open(self, job: Assignment, name: str, asked: AskApproval, deadline: datetime | None) -> None:
        request = pb.OpenApprovalRequest(
            job_id=str(job.job_id),
            tenant=job.tenant,
            path=name,
            approver=asked.approver,
            title=asked.title,
            detail=asked.detail,
            arguments=asked.arguments,
            requester=job.actor,
            requester_may_decide=asked.requester_may_decide,
            quorum=asked.quorum,
            deadline=_moment(deadline),
        )
        await retrying(lambda: self._stub.OpenApproval(request, timeout=5), deadline_s=DEADLINE_S)

    async def close(self, job: Assignment, name: str, reason: str) -> None:
        request = pb.CloseApprovalRequest(job_id=str(job.job_id), tenant=job.tenant, path=name, reason=reason)
        await retrying(lambda: self._stub.CloseApproval(request, timeout=5), deadline_s=DEADLINE_S)

    async def mint(self, job: Assignment, key: str, deadline: datetime | None) -> str:
        request = pb.MintTokenRequest(job_id=str(job.job_id), tenant=job.tenant, key=key, deadline=_moment(deadline))
        answer = await retrying(lambda: self._stub.MintToken(request, timeout=5), deadline_s=DEADLINE_S)
        return str(answer.token)


def _moment(at: datetime | None) -> Timestamp | None:
    return None if at is None else to_timestamp(at)
