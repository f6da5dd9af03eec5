"""The service layer: what the gateway does, behind REST and gRPC alike, one module for each noun.

Limits, ownership of jobs and refusals are decided here. Requests that change something arrive as checked values
(`core.requests`); filters, ids and answers are messages of the gRPC API.
"""

from __future__ import annotations

from dataclasses import dataclass

from aetheris_gateway.identity import Identity
from aetheris_gateway.service.approvals import ApprovalService
from aetheris_gateway.service.effects import EffectService
from aetheris_gateway.service.forks import ForkService
from aetheris_gateway.service.inbox import InboxService
from aetheris_gateway.service.jobs import JobService
from aetheris_gateway.service.record import RecordService
from aetheris_gateway.service.tokens import TokenService
from aetheris_gateway.waits import WaitBudget


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayServices:
    jobs: JobService
    forks: ForkService
    record: RecordService
    inbox: InboxService
    approvals: ApprovalService
    tokens: TokenService
    effects: EffectService
    identity: Identity
    waits: WaitBudget


__all__ = [
    "ApprovalService",
    "EffectService",
    "ForkService",
    "GatewayServices",
    "InboxService",
    "JobService",
    "RecordService",
    "TokenService",
]
