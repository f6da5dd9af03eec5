"""Side effects: list them, and resolve those in doubt by what a person says.

    resolution stored at the ledger ──► the job requeued ──► its holder records the resolution in the chain

A job that waits for an operator continues only after a requeue. If the gateway dies between the two, or the scheduler
is away, the caller gets no answer and sends the resolution again: the ledger has it already, and the job is requeued.
"""

from __future__ import annotations

from aetheris_api.statuses import ResolutionChoice
from aetheris_kernel.errors import Conflict, NotFound
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.ledger.v1 import ledger_pb2 as ledger_pb
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb

from aetheris_gateway import convert
from aetheris_gateway.core import intake
from aetheris_gateway.core.requests import NewResolution
from aetheris_gateway.identity import Caller
from aetheris_gateway.metrics import RESOLUTIONS
from aetheris_gateway.peers import Ledger, Scheduler
from aetheris_gateway.service.jobs import JobService, page_size, page_token


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

    async def resolve(self, caller: Caller, new: NewResolution) -> pb.ResolveEffectResponse:
        committed = new.resolution is ResolutionChoice.COMMITTED
        try:
            response = await self._ledger.resolve_effect(
                ledger_pb.ResolveEffectRequest(
                    tenant=caller.tenant,
                    key=new.key,
                    verdict=convert.RESOLUTIONS[new.resolution],
                    result=(new.result or intake.NULL).raw if committed else b"",
                    actor=caller.actor,
                    note=new.note,
                )
            )
        except NotFound:
            # The refusal does not repeat the key, which may be any text of the caller's.
            raise NotFound("no effect has this key") from None
        RESOLUTIONS.labels(new.resolution).inc()
        await self._requeue(caller, response.effect.job_id)
        return pb.ResolveEffectResponse(effect=response.effect)

    async def _requeue(self, caller: Caller, job_id: str) -> None:
        try:
            await self._scheduler.requeue(scheduler_pb.RequeueRequest(job_id=job_id, actor=caller.actor))
        except (Conflict, NotFound):
            # The job is not parked: its holder looks for resolutions before it parks, and the scheduler remembers the
            # requeue. Or the job has ended, and nothing will read the resolution.
            return
