"""Routes of the record: events, commits, trace, verification, the live stream and the trace page."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from typing import Annotated

from aetheris_api import record as shapes
from aetheris_api import routes
from aetheris_api.trace import Trace
from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Invalid, Refusal, Unavailable
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.ledger.v1 import ledger_pb2 as ledger_pb
from fastapi import Query, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from aetheris_gateway.http.pages import trace as pages
from aetheris_gateway.http.render import JsonResponse, dumps
from aetheris_gateway.http.routes.endpoint import endpoint
from aetheris_gateway.http.views import record as views
from aetheris_gateway.http.views import trace as trace_views
from aetheris_gateway.identity import Caller
from aetheris_gateway.metrics import STREAMS
from aetheris_gateway.service import GatewayServices

SEQ_MAX = 2**63 - 1
# Proxies cut connections that are silent for a minute or less.
KEEPALIVE_S = 15.0
_RECONNECT_MS = 1_000
_VERIFY_S = 2.0

After = Annotated[int, Query(ge=0, le=SEQ_MAX, description="The last commit already seen.")]


class RecordRoutes:
    def __init__(self, services: GatewayServices, clock: Clock) -> None:
        self._services = services
        self._clock = clock

    def _caller(self, request: Request) -> Caller:
        return self._services.identity.caller(request.headers)

    @endpoint(routes.READ_EVENTS, response_model=shapes.EventPage, summary="What happened, in order")
    async def events(
        self,
        request: Request,
        job_id: str,
        after: After = 0,
        limit: Annotated[int, Query(ge=1, le=10_000, description="At most this many commits.")] = 1_000,
    ) -> JsonResponse:
        wanted = pb.ReadEventsRequest(job_id=job_id, after_seq=after, page_size=limit)
        return JsonResponse(views.event_page(await self._services.record.read_events(self._caller(request), wanted)))

    @endpoint(routes.READ_COMMITS, response_model=shapes.CommitPage, summary="The stored commits, byte for byte")
    async def commits(
        self,
        request: Request,
        job_id: str,
        after: After = 0,
        limit: Annotated[int, Query(ge=1, le=1_000, description="At most this many commits.")] = 100,
    ) -> JsonResponse:
        """Enough to compute every hash again, and to replay the job elsewhere: see `aetheris export`."""
        wanted = pb.ReadEventsRequest(job_id=job_id, after_seq=after, page_size=limit)
        return JsonResponse(views.commit_page(await self._services.record.read_events(self._caller(request), wanted)))

    @endpoint(routes.GET_TRACE, response_model=Trace, summary="What happened, as steps")
    async def trace(self, request: Request, job_id: str) -> JsonResponse:
        return JsonResponse(trace_views.trace(await self._services.record.trace(self._caller(request), job_id)))

    @endpoint(routes.TRACE_PAGE, summary="What happened, as a page")
    async def trace_page(
        self, request: Request, job_id: str, page: Annotated[int, Query(ge=1, le=1_000)] = 1
    ) -> Response:
        caller = self._caller(request)
        traced = await self._services.record.trace(caller, job_id)
        verification = await self._quick_verification(caller, job_id)
        return await pages.trace(traced, verification, now=self._clock.now(), page=page)

    async def _quick_verification(self, caller: Caller, job_id: str) -> shapes.Verification | None:
        """What the ledger says about the chain; None if it takes longer than a page should take to load."""
        try:
            async with asyncio.timeout(_VERIFY_S):
                found = await self._services.record.verify(caller, pb.VerifyJobRequest(job_id=job_id))
        except (TimeoutError, Unavailable):
            return None
        return views.verification(job_id, found)

    @endpoint(routes.VERIFY_JOB, response_model=shapes.Verification, summary="Whether the chain is intact")
    async def verify(self, request: Request, job_id: str) -> JsonResponse:
        found = await self._services.record.verify(self._caller(request), pb.VerifyJobRequest(job_id=job_id))
        return JsonResponse(views.verification(job_id, found))

    @endpoint(
        routes.STREAM_EVENTS,
        summary="What happens, as it happens (server-sent events)",
        responses={200: {"content": {"text/event-stream": {}}, "description": "One message per commit."}},
        response_class=StreamingResponse,
    )
    async def stream(
        self, request: Request, job_id: str, after: Annotated[int, Query(ge=0, le=SEQ_MAX)] = 0
    ) -> StreamingResponse:
        """Each message has the commit's seq as its id and can be resumed by Last-Event-ID. After the job's
        last commit comes `end`; `reconnect` means that another replica continues from here."""
        wanted = pb.WatchEventsRequest(job_id=job_id, after_seq=_last_seen(request, after))
        caller = self._caller(request)
        leave = self._services.waits.enter(caller, stream=True)
        try:
            watching = await self._services.record.watch_events(caller, wanted, tick_s=KEEPALIVE_S)
        except BaseException:
            leave()
            raise
        return _EventStream(watching, leave)


class _EventStream(StreamingResponse):
    """The answer to one reader. Its place among the waits is given back however it ends."""

    def __init__(
        self, watching: AsyncGenerator[pb.WatchEventsResponse | None, None], leave: Callable[[], None]
    ) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(_messages(watching), media_type="text/event-stream", headers=headers)
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        STREAMS.inc()
        try:
            await super().__call__(scope, receive, send)
        finally:
            STREAMS.dec()
            self._leave()


def _last_seen(request: Request, after: int) -> int:
    text = request.headers.get("last-event-id", "")
    if not text:
        return after
    if not re.fullmatch(r"[0-9]{1,19}", text) or int(text) > SEQ_MAX:
        raise Invalid("Last-Event-ID is the id of a message of this stream", field="last-event-id")
    return int(text)


async def _messages(watching: AsyncGenerator[pb.WatchEventsResponse | None, None]) -> AsyncGenerator[str, None]:
    yield f"retry: {_RECONNECT_MS}\n\n"
    try:
        async for response in watching:
            if response is None:
                yield ": still here\n\n"
                continue
            for commit in response.commits:
                yield _message(commit)
        yield "event: end\ndata: {}\n\n"
    except Unavailable as refusal:
        # The client reconnects with the last id it has seen.
        yield f"event: reconnect\ndata: {dumps({'reason': refusal.reason})}\n\n"
    except Refusal as refusal:
        # Reconnecting would not help.
        yield f"event: refused\ndata: {dumps({'code': refusal.reason, 'message': refusal.message})}\n\n"
    finally:
        await watching.aclose()


def _message(commit: ledger_pb.Commit) -> str:
    # A job's values are spliced in as it wrote them, so the JSON may have several lines; each needs its own `data:`.
    lines = re.split(r"\r\n|\r|\n", dumps(views.commit(commit)))
    return f"id: {commit.seq}\n" + "".join(f"data: {line}\n" for line in lines) + "\n"
