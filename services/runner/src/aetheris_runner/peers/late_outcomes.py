"""Reports to the ledger the outcome of a tool that ended after its runner had lost the lease.

The ledger keeps the report as a resolution of the effect. If the job waits for a person because of that effect, the
scheduler is asked to wake it, and its next holder finds the resolution.
"""

from __future__ import annotations

import asyncio
from collections import deque

import grpc
import structlog
from aetheris_chassis.client import retrying
from aetheris_engine.ports import LateOutcome
from aetheris_journal import codec
from aetheris_kernel.errors import Refusal, Unavailable
from aetheris_proto.ledger.v1 import ledger_pb2 as ledger_pb
from aetheris_proto.ledger.v1 import ledger_pb2_grpc as ledger_rpc
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb
from aetheris_proto.scheduler.v1 import scheduler_pb2_grpc as scheduler_rpc

log = structlog.get_logger()

_TRY_S = 30.0
_WAITING_MAX = 10_000


class LedgerLateOutcomes:
    """`ports.LateOutcomes` over gRPC. `run` reports one after the other."""

    def __init__(self, ledger: grpc.aio.Channel, scheduler: grpc.aio.Channel) -> None:
        self._ledger = ledger_rpc.LedgerStub(ledger)
        self._scheduler = scheduler_rpc.SchedulerStub(scheduler)
        # If there are too many, the oldest are dropped: their jobs have had the most time to be resolved in another
        # way.
        self._waiting: deque[LateOutcome] = deque(maxlen=_WAITING_MAX)
        self._due = asyncio.Event()
        self._told = asyncio.Event()
        self._told.set()

    def report(self, late: LateOutcome) -> None:
        self._waiting.append(late)
        self._told.clear()
        self._due.set()

    async def settled(self) -> None:
        """Return when the ledger has every reported outcome."""
        await self._told.wait()

    async def run(self) -> None:
        while True:
            await self._due.wait()
            late = self._waiting[0]
            try:
                await self._tell(late)
            except Unavailable as away:
                log.warning("late outcome not told", job_id=str(late.job_id), problem=away.message)
                continue
            except Refusal as refusal:
                log.warning("late outcome refused", job_id=str(late.job_id), problem=refusal.message)
            if self._waiting and self._waiting[0] is late:
                self._waiting.popleft()
            if not self._waiting:
                self._due.clear()
                self._told.set()

    async def _tell(self, late: LateOutcome) -> None:
        request = ledger_pb.ReportLateOutcomeRequest(
            tenant=late.tenant, key=late.key, job_id=str(late.job_id), lease=late.lease, result=late.result
        )
        if late.failure is not None:
            request.failure.CopyFrom(codec.to_failure(late.failure))
        answer = await retrying(lambda: self._ledger.ReportLateOutcome(request, timeout=5), deadline_s=_TRY_S)
        effect = answer.effect
        log.info("late outcome told", job_id=str(late.job_id), state=effect.state, noted=effect.HasField("note"))
        if effect.state == ledger_pb.EFFECT_STATE_IN_DOUBT:
            await self._wake(late)

    async def _wake(self, late: LateOutcome) -> None:
        """Wake the job: if it waits for a person because of this effect, it need not wait any more. A job that is held
        looks again."""
        requeue = scheduler_pb.RequeueRequest(job_id=str(late.job_id), actor="late outcome")
        try:
            await retrying(lambda: self._scheduler.Requeue(requeue, timeout=5), deadline_s=_TRY_S)
        except Unavailable:
            raise
        except Refusal as refusal:
            log.info("not requeued", job_id=str(late.job_id), because=refusal.message)
