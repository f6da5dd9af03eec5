"""Late outcomes over real gRPC: reported until the gateway answers, and a job that waits for a person is made ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import grpc
import pytest
from aeterna.grpc import started
from aetheris_engine.ports import LateOutcome
from aetheris_proto.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from aetheris_proto.scheduler.v1 import scheduler_pb2, scheduler_pb2_grpc
from aetheris_runner.peers.late_outcomes import LedgerLateOutcomes

JOB = UUID("018f0000-0000-7000-8000-000000000001")
LATE = LateOutcome("default", JOB, "key-1", 3, b'"receipt"')


class Peers(ledger_pb2_grpc.LedgerServicer, scheduler_pb2_grpc.SchedulerServicer):
    """A ledger and a scheduler that are away for a while, and write down what they hear."""

    def __init__(self, state: ledger_pb2.EffectState, *, away: int = 0, held: bool = False) -> None:
        self.reports: list[ledger_pb2.ReportLateOutcomeRequest] = []
        self.requeued: list[str] = []
        self._state, self._away, self._held = state, away, held

    async def ReportLateOutcome(self, request: ledger_pb2.ReportLateOutcomeRequest, context: Any) -> Any:
        await self._unless_away(context)
        self.reports.append(request)
        return ledger_pb2.ReportLateOutcomeResponse(effect=ledger_pb2.Effect(state=self._state))

    async def Requeue(self, request: scheduler_pb2.RequeueRequest, context: Any) -> Any:
        await self._unless_away(context)
        self.requeued.append(request.job_id)
        if self._held:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the job is not parked, it is leased")
        return scheduler_pb2.RequeueResponse()

    async def _unless_away(self, context: Any) -> None:
        if self._away:
            self._away -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")


@asynccontextmanager
async def telling(peers: Peers) -> AsyncIterator[LedgerLateOutcomes]:
    server = grpc.aio.server()
    ledger_pb2_grpc.add_LedgerServicer_to_server(peers, server)
    scheduler_pb2_grpc.add_SchedulerServicer_to_server(peers, server)
    port = server.add_insecure_port("127.0.0.1:0")
    async with started(server), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        witness = LedgerLateOutcomes(channel, channel)
        loop = asyncio.ensure_future(witness.run())
        yield witness
        loop.cancel()
        await asyncio.wait([loop])


@pytest.mark.parametrize("away", [0, 3])
async def test_it_is_told_until_it_is_heard_and_a_job_in_doubt_goes_on(away: int) -> None:
    peers = Peers(ledger_pb2.EFFECT_STATE_IN_DOUBT, away=away)
    async with telling(peers) as witness:
        witness.report(LATE)
        async with asyncio.timeout(10):
            await witness.settled()

    (report,) = peers.reports
    assert (report.tenant, report.key, report.job_id, report.lease) == ("default", "key-1", str(JOB), 3)
    assert (report.result, report.HasField("failure")) == (b'"receipt"', False)
    assert peers.requeued == [str(JOB)]


async def test_an_effect_that_is_resolved_already_wakes_no_job() -> None:
    peers = Peers(ledger_pb2.EFFECT_STATE_COMMITTED)
    async with telling(peers) as witness:
        witness.report(LATE)
        async with asyncio.timeout(10):
            await witness.settled()

    assert peers.requeued == []


async def test_a_job_that_a_runner_holds_is_only_woken() -> None:
    """The scheduler refuses, and sets its wake flag all the same: a park that is under way does not miss it."""
    peers = Peers(ledger_pb2.EFFECT_STATE_IN_DOUBT, held=True)
    async with telling(peers) as witness:
        witness.report(LATE)
        witness.report(LATE)
        async with asyncio.timeout(10):
            await witness.settled()

    assert peers.requeued == [str(JOB)] * 2
