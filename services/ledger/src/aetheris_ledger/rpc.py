"""The gRPC servicer: converts, and obeys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from aetheris_kernel.clock import Clock
from aetheris_proto.ledger.v1 import ledger_pb2 as pb
from aetheris_proto.ledger.v1 import ledger_pb2_grpc

from aetheris_ledger import convert
from aetheris_ledger.appending import Appends
from aetheris_ledger.core.effect import with_late_outcome, with_resolution
from aetheris_ledger.journal import Bounds, Context, JournalStream
from aetheris_ledger.moment import microseconds
from aetheris_ledger.notes import leave_resolution
from aetheris_ledger.reading import Reader
from aetheris_ledger.store import Store
from aetheris_ledger.verify import verify
from aetheris_ledger.watch import Watches


class Ledger(ledger_pb2_grpc.LedgerServicer):
    def __init__(
        self,
        store: Store,
        appends: Appends,
        reader: Reader,
        watches: Watches,
        clock: Clock,
        *,
        bounds: Bounds,
        verifies_max: int,
        draining: asyncio.Event,
    ) -> None:
        self._store = store
        self._appends = appends
        self._reader = reader
        self._watches = watches
        self._clock = clock
        self._bounds = bounds
        self._verifying = asyncio.Semaphore(verifies_max)
        self._draining = draining

    async def Journal(self, request_iterator: Any, context: Context) -> None:
        await JournalStream(context, self._appends, self._reader, self._bounds).run(self._draining)

    async def Read(self, request: pb.ReadRequest, context: Any) -> pb.ReadResponse:
        commits, more = await self._reader.read(convert.want(request), convert.page_size(request))
        return pb.ReadResponse(commits=[convert.commit(commit) for commit in commits], more=more)

    async def Watch(self, request: pb.WatchRequest, context: Any) -> AsyncIterator[pb.WatchResponse]:
        want = convert.want(request)
        async for commits in self._watches.follow(want.job, want.after):
            yield pb.WatchResponse(commits=[convert.commit(commit) for commit in commits])

    async def Verify(self, request: pb.VerifyRequest, context: Any) -> pb.VerifyResponse:
        async with self._verifying:
            return convert.report(await verify(self._store, convert.job_id(request.job_id)))

    async def ListEffects(self, request: pb.ListEffectsRequest, context: Any) -> pb.ListEffectsResponse:
        listing = convert.listing(request)
        return convert.listed(listing, await self._store.effects(listing))

    async def ResolveEffect(self, request: pb.ResolveEffectRequest, context: Any) -> pb.ResolveEffectResponse:
        tenant, key, resolution = convert.resolution(request, microseconds(self._clock.now()))
        effect = await leave_resolution(self._store, tenant, key, lambda effect: with_resolution(effect, resolution))
        return pb.ResolveEffectResponse(effect=convert.effect(effect))

    async def ReportLateOutcome(
        self, request: pb.ReportLateOutcomeRequest, context: Any
    ) -> pb.ReportLateOutcomeResponse:
        tenant, key, resolution = convert.late_outcome(request, microseconds(self._clock.now()))
        job = convert.job_id(request.job_id)
        effect = await leave_resolution(
            self._store, tenant, key, lambda effect: with_late_outcome(effect, resolution, job=job, lease=request.lease)
        )
        return pb.ReportLateOutcomeResponse(effect=convert.effect(effect))
