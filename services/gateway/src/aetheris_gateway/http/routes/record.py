"""Routes of the record: events, trace, verify, the live stream and the trace page."""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections.abc import AsyncGenerator
from typing import Annotated

from aetheris_journal import codec
from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Exhausted, Invalid, Refusal, Unavailable
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.ledger.v1 import ledger_pb2 as ledger_pb
from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from aetheris_gateway.http import models, pages, views
from aetheris_gateway.http.render import JsonResponse, dumps, moment
from aetheris_gateway.identity import Caller
from aetheris_gateway.metrics import STREAMS
from aetheris_gateway.service import GatewayServices

SEQ_MAX = 2**63 - 1
# Proxies cut connections that are silent for a minute or less.
KEEPALIVE_S = 15.0
_RECONNECT_MS = 1_000
_BADGE_S = 2.0


def router(services: GatewayServices, clock: Clock, *, streams_max: int) -> APIRouter:
    routes = APIRouter(tags=["record"])
    watched = 0

    @routes.get("/api/jobs/{job_id}/events", response_model=models.EventPage, summary="What happened, in order")
    async def events(
        request: Request,
        job_id: str,
        after: Annotated[int, Query(ge=0, le=SEQ_MAX, description="The last commit already seen.")] = 0,
        limit: Annotated[int, Query(ge=1, le=10_000, description="At most this many commits.")] = 1_000,
    ) -> JsonResponse:
        wanted = pb.ReadEventsRequest(job_id=job_id, after_seq=after, page_size=limit)
        page = await services.record.read_events(services.identity.caller(request.headers), wanted)
        return JsonResponse(views.event_page(page))

    @routes.get("/api/jobs/{job_id}/commits", response_model=models.CommitPage, summary="What is stored, byte for byte")
    async def commits(
        request: Request,
        job_id: str,
        after: Annotated[int, Query(ge=0, le=SEQ_MAX, description="The last commit already seen.")] = 0,
        limit: Annotated[int, Query(ge=1, le=1_000, description="At most this many commits.")] = 100,
    ) -> JsonResponse:
        """Enough to compute every hash again, and to replay the job elsewhere: see `aetheris export`."""
        wanted = pb.ReadEventsRequest(job_id=job_id, after_seq=after, page_size=limit)
        page = await services.record.read_events(services.identity.caller(request.headers), wanted)
        return JsonResponse(_stored(page))

    @routes.get("/api/jobs/{job_id}/trace", response_model=models.Trace, summary="What happened, as steps")
    async def trace(request: Request, job_id: str) -> JsonResponse:
        told = await services.record.trace(services.identity.caller(request.headers), job_id)
        return JsonResponse(views.trace(told))

    @routes.get("/api/jobs/{job_id}/trace/page", summary="What happened, as a page")
    async def trace_page(request: Request, job_id: str, page: Annotated[int, Query(ge=1, le=1_000)] = 1) -> Response:
        caller = services.identity.caller(request.headers)
        told = await services.record.trace(caller, job_id)
        return await pages.trace(told, await _badge(services, caller, job_id), now=clock.now(), page=page)

    @routes.get("/api/jobs/{job_id}/verify", response_model=models.Verdict, summary="Whether the chain is whole")
    async def verify(request: Request, job_id: str) -> JsonResponse:
        response = await services.record.verify(
            services.identity.caller(request.headers), pb.VerifyJobRequest(job_id=job_id)
        )
        return JsonResponse(views.verdict(job_id, response))

    @routes.get(
        "/api/jobs/{job_id}/stream",
        summary="What happens, as it happens (server-sent events)",
        responses={200: {"content": {"text/event-stream": {}}, "description": "One message per commit."}},
        response_class=StreamingResponse,
    )
    async def stream(
        request: Request, job_id: str, after: Annotated[int, Query(ge=0, le=SEQ_MAX)] = 0
    ) -> StreamingResponse:
        """Each message has the commit's seq as its id and can be resumed by Last-Event-ID. After the job's
        last commit comes `end`; `reconnect` says that another replica goes on from here."""
        nonlocal watched
        wanted = pb.WatchEventsRequest(job_id=job_id, after_seq=_last_seen(request, after))
        if watched >= streams_max:
            raise Exhausted(f"{streams_max} streams are open already", retry_after_s=5)
        watching = await services.record.watch_events(
            services.identity.caller(request.headers), wanted, tick_s=KEEPALIVE_S
        )

        async def counted() -> AsyncGenerator[str, None]:
            nonlocal watched
            watched += 1
            STREAMS.inc()
            try:
                async for text in _told(watching):
                    yield text
            finally:
                watched -= 1
                STREAMS.dec()

        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(counted(), media_type="text/event-stream", headers=headers)

    return routes


def _stored(page: pb.ReadEventsResponse) -> models.CommitPage:
    commits = [
        models.StoredCommit(
            seq=found.seq,
            lease=found.lease,
            time=moment(codec.from_timestamp(found.record_time)) or "",
            hash=found.hash.hex(),
            body=b64encode(found.body).decode(),
        )
        for found in page.commits
    ]
    return models.CommitPage(commits=commits, next_after=commits[-1].seq if page.more and commits else None)


async def _badge(services: GatewayServices, caller: Caller, job_id: str) -> models.Verdict | None:
    """The chain's verdict, if it is to be had while somebody waits for the page."""
    try:
        async with asyncio.timeout(_BADGE_S):
            return views.verdict(job_id, await services.record.verify(caller, pb.VerifyJobRequest(job_id=job_id)))
    except (TimeoutError, Unavailable):
        return None


def _last_seen(request: Request, after: int) -> int:
    text = request.headers.get("last-event-id", "")
    if not text:
        return after
    if not re.fullmatch(r"[0-9]{1,19}", text) or int(text) > SEQ_MAX:
        raise Invalid("Last-Event-ID is the id of a message of this stream", field="last-event-id")
    return int(text)


async def _told(watching: AsyncGenerator[pb.WatchEventsResponse | None, None]) -> AsyncGenerator[str, None]:
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
        # The client comes back by itself, with the last id it has seen.
        yield f"event: reconnect\ndata: {dumps({'reason': refusal.reason})}\n\n"
    except Refusal as refusal:
        # Coming back would not help.
        yield f"event: refused\ndata: {dumps({'code': refusal.reason, 'message': refusal.message})}\n\n"
    finally:
        await watching.aclose()


def _message(commit: ledger_pb.Commit) -> str:
    # Values are spliced in as they were written, and may be written over several lines.
    lines = re.split(r"\r\n|\r|\n", dumps(views.commit(commit)))
    return f"id: {commit.seq}\n" + "".join(f"data: {line}\n" for line in lines) + "\n"
