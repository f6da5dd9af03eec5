"""The service layer: everything that can be asked of the gateway, once, in the messages of its gRPC API.

REST and gRPC are two ways to the same services; limits, ownership and refusals live here.
"""

from __future__ import annotations

from dataclasses import dataclass

from aetheris_kernel.errors import Conflict, Invalid
from aetheris_proto.gateway.v1 import gateway_pb2 as pb

from aetheris_gateway.core import intake
from aetheris_gateway.core.fork import CHOICES
from aetheris_gateway.identity import Caller, Identity
from aetheris_gateway.service.approvals import ApprovalService
from aetheris_gateway.service.effects import EffectService
from aetheris_gateway.service.inbox import InboxService
from aetheris_gateway.service.jobs import JobService
from aetheris_gateway.service.record import RecordService
from aetheris_gateway.service.tokens import TokenService


@dataclass(frozen=True, slots=True)
class GatewayServices:
    jobs: JobService
    record: RecordService
    inbox: InboxService
    approvals: ApprovalService
    tokens: TokenService
    effects: EffectService
    identity: Identity

    async def fork(self, caller: Caller, request: pb.ForkJobRequest, *, traceparent: str = "") -> pb.ForkJobResponse:
        if request.effects and request.effects not in CHOICES:
            raise Invalid(f"effects is one of {', '.join(CHOICES)}", field="effects")
        before = intake.key(request.before_path, "before_path", required=False)
        await self.jobs.require(caller, request.job_id)
        history = await self.record.history(request.job_id)
        if not history.last_seq:
            raise Conflict("nothing is on record of the job yet; submit it anew instead", job_id=request.job_id)
        cut = history.cut(seq=request.at_seq, before_path=before)
        return await self.jobs.fork(caller, request, cut, traceparent=traceparent)


__all__ = [
    "ApprovalService",
    "EffectService",
    "GatewayServices",
    "InboxService",
    "JobService",
    "RecordService",
    "TokenService",
]
