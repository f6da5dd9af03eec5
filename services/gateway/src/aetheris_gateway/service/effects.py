"""Side effects: listed, and those in doubt resolved by a person.

    verdict left at the ledger ──► the job requeued ──► its holder writes the verdict into the chain

A job that waits for an operator is moved by nothing but a requeue. Where the gateway dies between the two, or
the scheduler is away, the caller is not answered and says it again: the verdict stands, and the job is told.
"""

from __future__ import annotations

from aetheris_kernel.errors import Conflict, Invalid, NotFound
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.ledger.v1 import event_pb2
from aetheris_proto.ledger.v1 import ledger_pb2 as ledger_pb
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb

from aetheris_gateway.core import intake
from aetheris_gateway.identity import Caller
from aetheris_gateway.metrics import RESOLUTIONS_TOTAL
from aetheris_gateway.peers import Ledger, Scheduler
from aetheris_gateway.service.jobs import JobService, page_size, page_token

RESOLUTIONS = {
    "committed": event_pb2.EffectResolved.VERDICT_COMMITTED,
    "not_executed": event_pb2.EffectResolved.VERDICT_NOT_EXECUTED,
    "abandoned": event_pb2.EffectResolved.VERDICT_ABANDONED,
}


class EffectService:
    def __init__(self, ledger: Ledger, scheduler: Scheduler, jobs: JobService) -> None:
        self._ledger = ledger
        self._scheduler = scheduler
        self._jobs = jobs

    async def list(self, caller: Caller, request: pb.ListEffectsRequest) -> pb.ListEffectsResponse:
        if request.job_id:
            await self._jobs.require(caller, request.job_id)
        page = await self._ledger.list_effects(
            ledger_pb.ListEffectsRequest(
                tenant=caller.tenant,
                state=request.state,
                job_id=request.job_id,
                page_size=page_size(request.page_size),
                page_token=page_token(request.page_token),
            )
        )
        return pb.ListEffectsResponse(effects=page.effects, next_page_token=page.next_page_token)

    async def resolve(self, caller: Caller, request: pb.ResolveEffectRequest) -> pb.ResolveEffectResponse:
        if request.verdict not in RESOLUTIONS.values():
            raise Invalid(f"the verdict is one of {', '.join(RESOLUTIONS)}", field="verdict")
        committed = request.verdict == event_pb2.EffectResolved.VERDICT_COMMITTED
        if request.result and not committed:
            raise Invalid("only what has run has a result", field="result")
        verdict = ledger_pb.ResolveEffectRequest(
            tenant=caller.tenant,
            key=intake.effect_key(request.key),
            verdict=request.verdict,
            result=intake.payload(request.result) if committed else b"",
            actor=caller.actor,
            note=intake.sentence(request.note, "note"),
        )
        try:
            response = await self._ledger.resolve_effect(verdict)
        except NotFound:
            # Without the key: it is whatever the caller made up.
            raise NotFound("no effect has this key") from None
        RESOLUTIONS_TOTAL.labels(
            next(name for name, verdict in RESOLUTIONS.items() if verdict == request.verdict)
        ).inc()
        await self._tell(caller, response.effect.job_id)
        return pb.ResolveEffectResponse(effect=response.effect)

    async def _tell(self, caller: Caller, job_id: str) -> None:
        try:
            await self._scheduler.requeue(scheduler_pb.RequeueRequest(job_id=job_id, actor=caller.actor))
        except (Conflict, NotFound):
            # It is not parked: its holder looks for a verdict before it parks, and the scheduler remembers
            # that it was asked for. Or it has ended, and nobody looks any more.
            return
