"""The operator of a chaos run: resolves doubts by asking the provider what happened."""

from __future__ import annotations

import asyncio
import json

import grpc
import httpx
from aetheris_chassis.client import open_channel
from aetheris_proto.ledger.v1 import event_pb2
from aetheris_proto.ledger.v1 import ledger_pb2 as ledger
from aetheris_proto.ledger.v1.ledger_pb2_grpc import LedgerStub
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler
from aetheris_proto.scheduler.v1.scheduler_pb2_grpc import SchedulerStub

from harness.suite import Suite

TENANT = "default"
_LOOK_S = 0.5


async def decide(suite: Suite, counter: str, tools: frozenset[str]) -> None:
    """Round after round, until cancelled."""
    async with (
        open_channel(suite.ledger) as to_ledger,
        open_channel(suite.scheduler) as to_scheduler,
        httpx.AsyncClient(base_url=counter, timeout=10) as provider,
    ):
        while True:
            try:
                await _round(LedgerStub(to_ledger), SchedulerStub(to_scheduler), provider, tools)
            except grpc.aio.AioRpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise
            await asyncio.sleep(_LOOK_S)


async def _round(records: LedgerStub, jobs: SchedulerStub, provider: httpx.AsyncClient, tools: frozenset[str]) -> None:
    request = ledger.ListEffectsRequest(tenant=TENANT, state=ledger.EFFECT_STATE_IN_DOUBT, page_size=1_000)
    for effect in (await records.ListEffects(request, timeout=5)).effects:
        if effect.tool not in tools:
            continue
        job = (await jobs.Get(scheduler.GetRequest(job_id=effect.job_id), timeout=5)).job
        if job.state != scheduler.JOB_STATE_PARKED or not job.park_reason.startswith("in doubt"):
            continue
        if not effect.HasField("note"):
            await _resolve(records, provider, effect)
        await _but_for_conflicts(jobs.Requeue(scheduler.RequeueRequest(job_id=effect.job_id, actor="ann"), timeout=5))


async def _resolve(records: LedgerStub, provider: httpx.AsyncClient, effect: ledger.Effect) -> None:
    found = await provider.get(f"/charges/{effect.key}")
    verdict = ledger.ResolveEffectRequest(tenant=TENANT, key=effect.key, actor="ann", note="looked it up")
    if found.status_code == 200:
        verdict.verdict = event_pb2.EffectResolved.VERDICT_COMMITTED
        verdict.result = json.dumps(found.json()["number"]).encode()
    else:
        verdict.verdict = event_pb2.EffectResolved.VERDICT_NOT_EXECUTED
    await _but_for_conflicts(records.ResolveEffect(verdict, timeout=5))


async def _but_for_conflicts(call: grpc.aio.UnaryUnaryCall) -> None:
    """The former holder may have resolved it, or this operator's earlier request, whose answer was lost."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
            raise
