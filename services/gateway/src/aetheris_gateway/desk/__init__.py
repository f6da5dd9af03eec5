"""The front desk: everything that can be asked of the gateway, once, in the messages of its gRPC API.

REST and gRPC are two ways to the same desk; limits, ownership and refusals live here.
"""

from __future__ import annotations

from dataclasses import dataclass

from aetheris_gateway.desk.approvals import Approvals
from aetheris_gateway.desk.inbox import Inbox
from aetheris_gateway.desk.jobs import Jobs
from aetheris_gateway.desk.record import Record
from aetheris_gateway.desk.tokens import Tokens
from aetheris_gateway.identity import Identity


@dataclass(frozen=True, slots=True)
class Desk:
    jobs: Jobs
    record: Record
    inbox: Inbox
    approvals: Approvals
    tokens: Tokens
    identity: Identity


__all__ = ["Approvals", "Desk", "Inbox", "Jobs", "Record", "Tokens"]
