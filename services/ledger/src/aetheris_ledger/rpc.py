"""The gRPC servicer: converts each request, asks the store, the writer or the readers, and converts the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from aetheris_journal.sealed import BODY_FORMAT
from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import NotFound, Stale
from aetheris_proto.ledger.v1 import ledger_pb2 as pb
from aetheris_proto.ledger.v1 import ledger_pb2_grpc

from aetheris_ledger import convert
from aetheris_ledger.core.append import microseconds
from aetheris_ledger.core.effect import Effect, with_late_outcome, with_resolution
from aetheris_ledger.journal_stream import Bounds, Context, JournalStream
from aetheris_ledger.reader import ChainReader
from aetheris_ledger.store.contract import Store
from aetheris_ledger.verify import verify
from aetheris_ledger.watch import Watches
from aetheris_ledger.writer import Appends

# A try fails only where the effect changed state in between, and an effect changes state only a few times.
_TRIES_MAX = 5


class LedgerServicer(ledger_pb2_grpc.LedgerServicer):
    def __init__(
        self,
        store: Store,
        appends: Appends,
        reader: ChainReader,
        watches: Watches,
        clock: Clock,
        *,
        bounds: Bounds,
        body_format: int,
        verifies_max: int,
        draining: asyncio.Event,
    ) -> None:
        self._store = store
        self._appends = appends
        self._reader = reader
        self._watches = watches
        self._clock = clock
        self._bounds = bounds
        self._body_format = body_format
        self._verifying = asyncio.Semaphore(verifies_max)
        self._draining = draining

    async def Journal(self, request_iterator: Any, context: Context) -> None:
        # Sent at once, so that a runner knows it before it builds its first commit.
        await context.send_initial_metadata(((BODY_FORMAT, str(self._body_format)),))
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
        effect = await _leave_resolution(self._store, tenant, key, lambda effect: with_resolution(effect, resolution))
        return pb.ResolveEffectResponse(effect=convert.effect(effect))

    async def ReportLateOutcome(
        self, request: pb.ReportLateOutcomeRequest, context: Any
    ) -> pb.ReportLateOutcomeResponse:
        tenant, key, resolution = convert.late_outcome(request, microseconds(self._clock.now()))
        job = convert.job_id(request.job_id)
        effect = await _leave_resolution(
            self._store, tenant, key, lambda effect: with_late_outcome(effect, resolution, job=job, lease=request.lease)
        )
        return pb.ReportLateOutcomeResponse(effect=convert.effect(effect))


async def _leave_resolution(store: Store, tenant: str, key: str, decide: Callable[[Effect], Effect | None]) -> Effect:
    """The row as it stands afterwards. `decide` returns it with a resolution on it, or None to change nothing."""
    for _ in range(_TRIES_MAX):
        effect = await store.effect(tenant, key)
        if effect is None:
            raise NotFound("there is no such effect", key=key)
        resolved = decide(effect)
        if resolved is None or resolved.resolution is None:
            return effect
        if await store.leave_resolution(effect, resolved.resolution):
            return resolved
    raise Stale("the effect kept changing; look at it again", key=key)
