"""Routes of the house: health, agents, runners, what is stuck, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated

from aetheris_chassis import metrics
from aetheris_kernel.errors import Refusal
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from fastapi import APIRouter, Query, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from aetheris_gateway.http import models, views
from aetheris_gateway.http.render import JsonResponse
from aetheris_gateway.service import GatewayServices

_CHECK_S = 1.0

Checks = Mapping[str, Callable[[], Awaitable[bool]]]


def router(services: GatewayServices, *, checks: Checks, draining: asyncio.Event) -> APIRouter:
    routes = APIRouter(tags=["operations"])

    @routes.get("/api/health", response_model=models.Health, summary="Whether this gateway works")
    async def health() -> JsonResponse:
        """200 while signals are accepted, for which the gateway needs nothing but its database."""
        found = dict(zip(checks, await asyncio.gather(*(_check(check) for check in checks.values())), strict=True))
        if draining.is_set():
            status = "draining"
        elif found["database"].status != "ok":
            status = "down"
        else:
            status = "ok" if all(check.status == "ok" for check in found.values()) else "degraded"
        return JsonResponse(models.Health(status=status, checks=found), 200 if status in ("ok", "degraded") else 503)

    @routes.get("/api/agents", response_model=models.AgentList, summary="What the connected runners offer")
    async def agents() -> JsonResponse:
        return JsonResponse(views.agents(await services.jobs.all_runners()))

    @routes.get("/api/runners", response_model=models.RunnerPage, summary="The connected runners")
    async def runners(
        limit: Annotated[int, Query(ge=1, le=1000)] = 100, cursor: Annotated[str, Query(max_length=1024)] = ""
    ) -> JsonResponse:
        return JsonResponse(
            views.runner_page(await services.jobs.runners(pb.ListRunnersRequest(page_size=limit, page_token=cursor)))
        )

    @routes.get("/api/observability/stuck", response_model=models.StuckPage, summary="Jobs that need an eye, and why")
    async def stuck(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str, Query(max_length=1024)] = "",
    ) -> JsonResponse:
        page = await services.jobs.stuck(
            services.identity.caller(request.headers), pb.ListStuckRequest(page_size=limit, page_token=cursor)
        )
        return JsonResponse(views.stuck_page(page))

    @routes.get("/metrics", summary="Prometheus", response_class=Response)
    async def scrape() -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    return routes


async def _check(check: Callable[[], Awaitable[bool]]) -> models.Check:
    try:
        async with asyncio.timeout(_CHECK_S):
            return models.Check(status="ok") if await check() else models.Check(status="down", message="not serving")
    except TimeoutError:
        return models.Check(status="down", message=f"no answer within {_CHECK_S:g} s")
    except Refusal as refusal:
        return models.Check(status="down", message=refusal.message)
