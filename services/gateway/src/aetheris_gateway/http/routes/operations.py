"""Routes for operators: health, agents, runners, stuck jobs, metrics, and the description of the API itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

from aetheris_api import health as health_shapes
from aetheris_api import routes
from aetheris_api import runners as runner_shapes
from aetheris_api.jobs import StuckPage
from aetheris_api.statuses import HealthStatus
from aetheris_chassis import metrics
from aetheris_kernel.errors import Refusal
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from fastapi import Query, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from aetheris_gateway.http.pages.reference import reference
from aetheris_gateway.http.render import JsonResponse
from aetheris_gateway.http.routes.endpoint import endpoint
from aetheris_gateway.http.views import jobs as job_views
from aetheris_gateway.http.views import runners as views
from aetheris_gateway.service import GatewayServices

_CHECK_S = 1.0

Checks = Mapping[str, Callable[[], Awaitable[bool]]]


class OperationRoutes:
    def __init__(self, services: GatewayServices, *, checks: Checks, draining: asyncio.Event) -> None:
        self._services = services
        self._checks = checks
        self._draining = draining

    @endpoint(routes.GET_HEALTH, response_model=health_shapes.Health, summary="Whether this gateway works")
    async def health(self) -> JsonResponse:
        """200 while signals are accepted, for which the gateway needs nothing but its database."""
        answers = await asyncio.gather(*(_check(check) for check in self._checks.values()))
        found = dict(zip(self._checks, answers, strict=True))
        if self._draining.is_set():
            status = HealthStatus.DRAINING
        elif found["database"].status != HealthStatus.OK:
            status = HealthStatus.DOWN
        elif all(check.status == HealthStatus.OK for check in found.values()):
            status = HealthStatus.OK
        else:
            status = HealthStatus.DEGRADED
        works = status in (HealthStatus.OK, HealthStatus.DEGRADED)
        return JsonResponse(health_shapes.Health(status=status, checks=found), 200 if works else 503)

    @endpoint(
        routes.LIST_AGENTS, response_model=runner_shapes.AgentList, summary="The agents that connected runners offer"
    )
    async def agents(self) -> JsonResponse:
        return JsonResponse(views.agent_list(await self._services.jobs.all_runners()))

    @endpoint(routes.LIST_RUNNERS, response_model=runner_shapes.RunnerPage, summary="The connected runners")
    async def runners(
        self, limit: Annotated[int, Query(ge=1, le=1000)] = 100, cursor: Annotated[str, Query(max_length=1024)] = ""
    ) -> JsonResponse:
        wanted = pb.ListRunnersRequest(page_size=limit, page_token=cursor)
        return JsonResponse(views.runner_page(await self._services.jobs.runners(wanted)))

    @endpoint(
        routes.LIST_DEPLOYMENTS,
        response_model=runner_shapes.DeploymentPage,
        summary="The versions of agents, with their runners and open jobs",
    )
    async def deployments(
        self,
        request: Request,
        agent: Annotated[str, Query(max_length=128)] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str, Query(max_length=1024)] = "",
    ) -> JsonResponse:
        caller = self._services.identity.caller(request.headers)
        wanted = pb.ListDeploymentsRequest(agent=agent, page_size=limit, page_token=cursor)
        return JsonResponse(views.deployment_page(await self._services.jobs.deployments(caller, wanted)))

    @endpoint(routes.LIST_STUCK, response_model=StuckPage, summary="Jobs that do not continue without help, and why")
    async def stuck(
        self,
        request: Request,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str, Query(max_length=1024)] = "",
    ) -> JsonResponse:
        caller = self._services.identity.caller(request.headers)
        page = await self._services.jobs.stuck(caller, pb.ListStuckRequest(page_size=limit, page_token=cursor))
        return JsonResponse(job_views.stuck_page(page))

    @endpoint(routes.GET_METRICS, summary="Prometheus", response_class=Response)
    async def scrape(self) -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


class ReferenceRoutes:
    """The page that documents the API. `openapi` is asked for the description each time; FastAPI keeps it."""

    def __init__(self, openapi: Callable[[], Mapping[str, Any]]) -> None:
        self._openapi = openapi

    @endpoint(routes.API_PAGE, include_in_schema=False)
    async def docs(self) -> Response:
        return reference(self._openapi())


async def _check(check: Callable[[], Awaitable[bool]]) -> health_shapes.Check:
    try:
        async with asyncio.timeout(_CHECK_S):
            works = await check()
    except TimeoutError:
        return health_shapes.Check(status=HealthStatus.DOWN, message=f"no answer within {_CHECK_S:g} s")
    except Refusal as refusal:
        return health_shapes.Check(status=HealthStatus.DOWN, message=refusal.message)
    if not works:
        return health_shapes.Check(status=HealthStatus.DOWN, message="not serving")
    return health_shapes.Check(status=HealthStatus.OK)
